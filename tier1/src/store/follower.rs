//! Memory follows the database: all of it at first, then what changes.
//!
//! What is new is told by snapshots, not by numbers: a change is read if the reader's last snapshot did not show it,
//! so that it does not matter in which order transactions commit. Only one task reads, so that what it reads is never
//! older than what it has read before.

use super::{
    Registry,
    database::{Database, DatabaseError},
    holdings::{self, Holdings},
    row::{Clock, Row},
    tokens::{self, Listed},
    unnamed::Unnamed,
};
use crate::access::Tokens;
use crate::domain::{Cloudlet, cloudlet::Moment};
use futures_util::TryStreamExt as _;
use sinfonia_server::ReadinessTask;
use sinfonia_wire::{CloudletId, Resources};
use sqlx::{PgConnection, types::Uuid};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};
use tracing::{info, warn};

/// How often changes are asked for if nothing says that there are some.
const POLL: Duration = Duration::from_millis(500);
/// Who has not read for so long reads everything: changes are kept at least twice as long, and while anybody reads
/// everything.
const LAG: time::Duration = time::Duration::seconds(60);

/// Lets others ask the follower to read.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    asked: mpsc::UnboundedSender<oneshot::Sender<()>>,
    hint: Arc<Notify>,
    loaded: Arc<AtomicBool>,
}

pub(super) type Questions = mpsc::UnboundedReceiver<oneshot::Sender<()>>;

impl Reader {
    pub(super) fn new() -> (Self, Questions) {
        let (asked, questions) = mpsc::unbounded_channel();
        (Self { asked, hint: Arc::default(), loaded: Arc::default() }, questions)
    }

    /// Waits until memory knows everything that is committed now, or the database has become unavailable.
    pub(super) async fn read(&self) {
        let (done, read) = oneshot::channel();
        if self.asked.send(done).is_ok() {
            let _ = read.await;
        }
    }

    /// There may be something to read.
    pub(super) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Whether everything has been read once.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }
}

/// Reads what replicas write.
pub(super) struct Follower {
    pub(super) database: Database,
    pub(super) registry: Arc<Registry>,
    pub(super) holdings: Holdings,
    pub(super) tokens: Arc<Tokens>,
    pub(super) reader: Reader,
    pub(super) replica: Uuid,
    pub(super) position: Option<Position>,
    pub(super) starting: Option<ReadinessTask>,
    pub(super) failing: bool,
}

/// What was read last.
pub(super) struct Position {
    /// Everything that this shows.
    snapshot: String,
    /// Of which life of which server.
    server: OffsetDateTime,
    /// When reading that had ended, by the database's clock. Changes are kept at least [`LAG`] from then on.
    read: OffsetDateTime,
    /// Whether what this replica wrote has to be read too: memory may have been replaced after it was noted there.
    all: bool,
}

/// What has changed since a position.
struct Changes {
    position: Position,
    members: Vec<Uuid>,
    reported: Vec<Uuid>,
    held: Vec<Vec<u8>>,
    tokens: bool,
}

impl Follower {
    pub(super) async fn run(mut self, mut questions: Questions) {
        let mut waiting = Vec::new();
        loop {
            let hint = Arc::clone(&self.reader.hint);
            tokio::select! {
                () = hint.notified() => {}
                () = sleep(POLL) => {}
                question = questions.recv() => match question {
                    Some(question) => waiting.push(question),
                    None => return,
                },
            }
            while let Ok(question) = questions.try_recv() {
                waiting.push(question);
            }
            let result = self.step().await;
            // They are told by its end.
            waiting.clear();
            match result {
                Ok(()) => self.well(),
                Err(error) => {
                    self.ill(&error);
                    sleep(POLL).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), DatabaseError> {
        let Some(position) = &self.position else { return self.load().await };
        let replica = if position.all { Uuid::nil() } else { self.replica };
        let changes = self.database.run(async |c: &mut PgConnection| changes(c, position, replica).await).await?;
        let Some(changes) = changes else { return Err(DatabaseError::Standby) };
        let is_another = changes.position.server != position.server;
        if is_another || changes.position.read - position.read > LAG {
            info!(restarted = is_another, "the database may have changed unseen: reading it anew");
            return self.load().await;
        }
        self.apply(changes).await
    }

    async fn apply(&mut self, changes: Changes) -> Result<(), DatabaseError> {
        let Changes { position, members, reported, held, tokens } = changes;
        if tokens {
            let all = self.database.run(async |c: &mut PgConnection| tokens::all(c).await).await?;
            self.learn(all);
        }
        let clock = Clock::now(position.read);
        if !members.is_empty() {
            let ids = &members;
            let rows = self.database.run(async |c: &mut PgConnection| some(c, ids).await).await?;
            let present: Vec<Cloudlet> = rows.into_iter().filter_map(|row| row.cloudlet(clock)).collect();
            let known: HashSet<_> = present.iter().map(|cloudlet| cloudlet.id).collect();
            let gone = members.into_iter().map(Into::into).filter(|id| !known.contains(id)).collect();
            self.registry.update(present, gone).await;
        }
        if !reported.is_empty() {
            let ids = &reported;
            let pulses = self.database.run(async |c: &mut PgConnection| pulses(c, ids).await).await?;
            self.registry.renew(pulses.into_iter().filter_map(|pulse| pulse.read(clock)));
        }
        if !held.is_empty() {
            let keys = &held;
            let rows = self.database.run(async |c: &mut PgConnection| holdings::some(c, keys).await).await?;
            self.holdings.follow(&held, rows);
        }
        self.position = Some(position);
        Ok(())
    }

    /// Reads everything.
    async fn load(&mut self) -> Result<(), DatabaseError> {
        let everything = self.database.run_long(async |c: &mut PgConnection| everything(c).await).await?;
        let Some((position, cloudlets, held, tokens)) = everything else { return Err(DatabaseError::Standby) };
        info!(cloudlets = cloudlets.len(), "the database is read");
        self.registry.replace(cloudlets).await;
        self.holdings.load(held);
        self.learn(tokens);
        self.position = Some(position);
        self.reader.loaded.store(true, Ordering::Release);
        self.starting = None;
        Ok(())
    }

    fn learn(&self, tokens: Vec<Listed>) {
        self.tokens.replace_database(tokens.into_iter().map(|listed| listed.grant).collect());
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!("the database is followed again");
        }
    }

    fn ill(&mut self, error: &DatabaseError) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%error, "the database cannot be followed; what is known stays");
        }
    }
}

/// What has changed; none on a standby.
async fn changes(
    connection: &mut PgConnection,
    since: &Position,
    replica: Uuid,
) -> Result<Option<Changes>, sqlx::Error> {
    let row = sqlx::query!(
        r#"WITH fresh AS MATERIALIZED (
            SELECT writer, reported, members, held, tokens FROM changes
            WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
                AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
        )
        SELECT pg_is_in_recovery() AS "standby!", pg_current_snapshot()::text AS "snapshot!",
            pg_postmaster_start_time() AS "server!", clock_timestamp() AS "now!",
            ARRAY(SELECT DISTINCT unnest(members) FROM fresh) AS "members!",
            ARRAY(SELECT DISTINCT unnest(reported) FROM fresh WHERE writer IS DISTINCT FROM $2) AS "reported!",
            ARRAY(SELECT DISTINCT unnest(held) FROM fresh WHERE writer IS DISTINCT FROM $2) AS "held!",
            EXISTS (SELECT FROM fresh WHERE tokens) AS "tokens!""#,
        since.snapshot,
        replica
    )
    .fetch_one(Unnamed(connection))
    .await?;
    let position = Position { snapshot: row.snapshot, server: row.server, read: row.now, all: false };
    let changes =
        Changes { position, members: row.members, reported: row.reported, held: row.held, tokens: row.tokens };
    Ok((!row.standby).then_some(changes))
}

async fn some(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, info::text AS "info!", addresses::text AS "addresses!", places::text AS "places!",
            resources::text AS "resources!", heard
        FROM cloudlets JOIN pulses USING (id) WHERE id = ANY($1)"#,
        ids
    )
    .fetch_all(Unnamed(connection))
    .await
}

struct Pulse {
    id: Uuid,
    resources: String,
    heard: OffsetDateTime,
}

impl Pulse {
    fn read(self, clock: Clock) -> Option<(CloudletId, Resources, Moment)> {
        let resources = serde_json::from_str(&self.resources)
            .inspect_err(|error| warn!(cloudlet = %self.id, %error, "a report in the database is not usable"));
        Some((self.id.into(), resources.ok()?, clock.moment(self.heard)))
    }
}

async fn pulses(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Pulse>, sqlx::Error> {
    sqlx::query_as!(Pulse, r#"SELECT id, resources::text AS "resources!", heard FROM pulses WHERE id = ANY($1)"#, ids)
        .fetch_all(Unnamed(connection))
        .await
}

type Everything = (Position, Vec<Cloudlet>, Vec<holdings::Row>, Vec<Listed>);

/// All of one state of the database; none on a standby.
async fn everything(connection: &mut PgConnection) -> Result<Option<Everything>, sqlx::Error> {
    // However long this takes, what changes meanwhile is kept until it can be read: see `upkeep`.
    sqlx::query!("SELECT pg_advisory_xact_lock_shared(hashtext('sinfonia-tier1 reading'))")
        .execute(Unnamed(&mut *connection))
        .await?;
    let state = sqlx::query!(
        r#"SELECT pg_is_in_recovery() AS "standby!", pg_current_snapshot()::text AS "snapshot!",
            pg_postmaster_start_time() AS "server!", clock_timestamp() AS "now!""#
    )
    .fetch_one(Unnamed(&mut *connection))
    .await?;
    if state.standby {
        return Ok(None);
    }
    let clock = Clock::now(state.now);
    let mut cloudlets = Vec::new();
    {
        let mut rows = sqlx::query_as!(
            Row,
            r#"SELECT id, info::text AS "info!", addresses::text AS "addresses!", places::text AS "places!",
                resources::text AS "resources!", heard
            FROM cloudlets JOIN pulses USING (id)"#
        )
        .fetch(Unnamed(&mut *connection));
        while let Some(row) = rows.try_next().await? {
            cloudlets.extend(row.cloudlet(clock));
        }
    }
    let held = holdings::all(&mut *connection).await?;
    let tokens = tokens::all(&mut *connection).await?;
    let read = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(Unnamed(connection));
    let position = Position { snapshot: state.snapshot, server: state.server, read: read.await?, all: true };
    Ok(Some((position, cloudlets, held, tokens)))
}
