//! Connections to Postgres, with time limits on everything.
//!
//! There may be a transaction pooler in between, with or without our knowledge: the next transaction is then on another
//! server session, where others may have been. So nothing is left there: statements have no names (`Unnamed`), and
//! settings are those of a transaction.

use super::options::Addresses;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use sqlx::{Executor as _, Postgres, Row as _};
use std::{ops::AsyncFnOnce, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{sync::Mutex, time::timeout};

/// Connections of one tier1 beside that for LISTEN: the writer's, the follower's, and some for what is rare.
const CONNECTIONS: u32 = 6;
/// How long getting a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a connection that nobody needs stays.
const IDLE: Duration = Duration::from_secs(300);
/// How often it is tried whether connections share sessions of the server.
const ROUNDS: usize = 5;
/// How long a transaction may take that somebody waits for, from the first to the last word.
pub(crate) const SHORT: Duration = Duration::from_secs(5);
/// The same for reading or changing everything there is.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// Durability is raised to what was promised, never lowered; the limits hold on the server too, also where a pooler
/// forgets what a session has set.
const BEGIN: &str = "BEGIN; \
    SET LOCAL statement_timeout = '4s'; SET LOCAL lock_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '6s'; \
    SELECT set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') \
    IN ('on', 'remote_apply') THEN current_setting('synchronous_commit') ELSE 'on' END, true)";
const BEGIN_LONG: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; \
    SET LOCAL statement_timeout = '300s'; SET LOCAL lock_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '300s'";

/// The database all replicas share.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pool: PgPool,
    /// One connection, past any pooler.
    listening: PgPool,
    direct: PgConnectOptions,
    /// Held by whoever asks why there is no connection.
    diagnosing: Arc<Mutex<()>>,
}

/// Why the database did not do as told.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// What it or the network said.
    #[error(transparent)]
    Failed(#[from] sqlx::Error),
    /// Too slow.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// All connections are in use; or somebody else is finding out why there are none.
    #[error("no connection within {} s: all {CONNECTIONS} are in use, or none can be made", CONNECT.as_secs())]
    Exhausted,
    /// A standby, or a primary that became one.
    #[error("the server is in recovery: it is a standby, and tier1 needs the primary")]
    Standby,
}

impl DatabaseError {
    /// Whether trying again is of no use before somebody changes something.
    pub(crate) fn is_permanent(&self) -> bool {
        let Self::Failed(sqlx::Error::Database(error)) = self else {
            return matches!(self, Self::Failed(sqlx::Error::Configuration(_) | sqlx::Error::Tls(_)));
        };
        // Authorisation, no such database, not permitted.
        error.code().is_some_and(|code| code.starts_with("28") || code == "3D000" || code == "42501")
    }

    /// Whether the same again may succeed at once: the connection was stale, or another transaction was in the way.
    pub(crate) fn is_momentary(&self) -> bool {
        match self {
            Self::Failed(sqlx::Error::Database(error)) => {
                // Administrator's command, deadlock, serialisation, a cloudlet that just went.
                error.code().is_some_and(|code| matches!(&*code, "57P01" | "40P01" | "40001" | "23503"))
            }
            Self::Failed(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
            _ => false,
        }
    }

    /// Whether a table lacks the partition for now.
    pub(crate) fn is_missing_partition(&self) -> bool {
        matches!(self, Self::Failed(sqlx::Error::Database(error)) if error.code().as_deref() == Some("23514"))
    }
}

impl Database {
    /// Connects when it is first needed.
    pub(crate) fn new(addresses: Addresses) -> Self {
        let [main, direct] = [Some(addresses.main.clone()), addresses.direct]
            .map(|options| options.unwrap_or_else(|| addresses.main.clone()).disable_statement_logging());
        let pool = |count| {
            PgPoolOptions::new()
                .max_connections(count)
                .acquire_timeout(CONNECT)
                .idle_timeout(IDLE)
                .after_connect(|connection, _| Box::pin(primary(connection)))
        };
        Self {
            pool: pool(CONNECTIONS).connect_lazy_with(main),
            listening: pool(1).connect_lazy_with(direct.clone()),
            direct,
            diagnosing: Arc::default(),
        }
    }

    /// Where LISTEN goes.
    pub(crate) fn listening(&self) -> &PgPool {
        &self.listening
    }

    /// A connection outside the pool, past any pooler.
    pub(crate) async fn connect(&self) -> Result<PgConnection, DatabaseError> {
        let connecting = async {
            let mut connection = self.direct.connect().await?;
            primary(&mut connection).await?;
            Ok(connection)
        };
        timeout(CONNECT, connecting).await.map_err(|_| DatabaseError::Slow(CONNECT))?.map_err(refused)
    }

    /// Whether a transaction pooler stands where LISTEN would go: whether one connection has several server sessions, or
    /// two have one. Who asks leaves nothing behind, but a pooler that is not busy may rarely go unnoticed.
    pub(crate) async fn is_pooled(&self) -> Result<bool, DatabaseError> {
        let (mut one, mut other) = (self.connect().await?, self.connect().await?);
        let ask = async {
            let first = session(&mut one).await?;
            for _ in 0..ROUNDS {
                other.execute("BEGIN").await?;
                let beside = session(&mut other).await?;
                let again = session(&mut one).await?;
                other.execute("ROLLBACK").await?;
                if again != first || beside == first {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let pooled = timeout(SHORT, ask).await.map_err(|_| DatabaseError::Slow(SHORT))?.map_err(refused)?;
        let _ = timeout(CONNECT, async { tokio::join!(one.close(), other.close()) }).await;
        Ok(pooled)
    }

    /// A connection that stays with its user.
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, DatabaseError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(connection),
            Err(sqlx::Error::PoolTimedOut) => Err(self.diagnose().await.unwrap_or(DatabaseError::Exhausted)),
            Err(error) => Err(refused(error)),
        }
    }

    /// Why no connection came: the pool went on trying and does not say. One at a time asks, since there may be no more
    /// than connections that are all in use, and everybody's would be many.
    async fn diagnose(&self) -> Option<DatabaseError> {
        let _asking = self.diagnosing.try_lock().ok()?;
        self.connect().await.err()
    }

    /// Does some work in a transaction that somebody waits for.
    pub(crate) async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, DatabaseError> {
        let mut connection = self.acquire().await?;
        let result = transaction(&mut connection, SHORT, work).await;
        keep_if_well(connection, &result);
        result
    }

    /// Does much work on one state of the database.
    pub(crate) async fn run_long<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, DatabaseError> {
        let mut connection = self.acquire().await?;
        let result = limited(&mut connection, BEGIN_LONG, LONG, work).await;
        keep_if_well(connection, &result);
        result
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        let _ = timeout(CONNECT, async { tokio::join!(self.listening.close(), self.pool.close()) }).await;
    }
}

/// A transaction on a connection, which is not to be used again after an error.
pub(crate) async fn transaction<T>(
    connection: &mut PgConnection,
    limit: Duration,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, DatabaseError> {
    limited(connection, BEGIN, limit, work).await
}

async fn limited<T>(
    connection: &mut PgConnection,
    begin: &'static str,
    limit: Duration,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, DatabaseError> {
    let all = async {
        let mut transaction = connection.begin_with(begin).await?;
        let value = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(value)
    };
    timeout(limit, all).await.map_err(|_| DatabaseError::Slow(limit))?.map_err(refused)
}

/// Closes a connection without a word if it may be in any state, or lead to a server that is not the primary.
fn keep_if_well<T>(connection: PoolConnection<Postgres>, result: &Result<T, DatabaseError>) {
    if result.is_err() {
        drop(connection.detach());
    }
}

/// The process of the server that does what this connection asks now.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    connection.fetch_one("SELECT pg_backend_pid()").await?.try_get(0)
}

async fn primary(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = connection.fetch_one("SELECT pg_is_in_recovery()").await?;
    if row.try_get(0)? { Err(sqlx::Error::Configuration(Box::new(Recovering))) } else { Ok(()) }
}

#[derive(Debug, Error)]
#[error("the server is in recovery")]
struct Recovering;

/// Finds the standby behind an error.
fn refused(error: sqlx::Error) -> DatabaseError {
    match &error {
        sqlx::Error::Configuration(reason) if reason.is::<Recovering>() => DatabaseError::Standby,
        // Read-only transaction: where there was a primary there is a standby now.
        sqlx::Error::Database(reason) if reason.code().as_deref() == Some("25006") => DatabaseError::Standby,
        _ => DatabaseError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn one_at_a_time_asks_why_there_is_no_connection() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let main = PgConnectOptions::new().host("127.0.0.1").port(port).username("nobody");
        let database = Database::new(Addresses { main, direct: None });
        let mut accepted = Vec::new();
        let accepting = async {
            loop {
                accepted.push(silent.accept().await.unwrap());
            }
        };
        let errors: Vec<_> = tokio::select! {
            answers = join_all((0..20).map(|_| database.acquire())) => answers.into_iter().map(Result::unwrap_err).collect(),
            () = accepting => vec![],
        };
        let exhausted = errors.iter().filter(|error| matches!(error, DatabaseError::Exhausted)).count();
        let slow = errors.iter().filter(|error| matches!(error, DatabaseError::Slow(_))).count();
        assert_eq!((exhausted, slow), (19, 1), "{errors:?}");
        assert_eq!(accepted.len(), CONNECTIONS as usize + 1);
    }
}
