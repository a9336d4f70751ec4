//! The schema, brought up to date by whichever replica comes first.

use super::database::{DatabaseError, LONG};
use sqlx::{
    Connection as _, Executor as _, PgConnection,
    migrate::{MigrateError, Migrator},
};
use tokio::time::timeout;

/// All schemas so far. Each only adds to the one before, so that a tier1 of the version before goes on working.
pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The lock is the transaction's, so that it also holds behind a pooler, and ends however we end. The migrator's statements
/// have names, which others may have left, and would find, on the same session of a pooler: they are forgotten before and
/// after, by a statement of its own, which poolers that keep account of names understand.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '300s'; SET LOCAL lock_timeout = '300s'; \
    SELECT pg_advisory_xact_lock(hashtext('sinfonia-tier1 migrations'))";

/// Applies what is missing, all of it or nothing.
pub(crate) async fn migrate(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    let all = async {
        let mut transaction = connection.begin_with(BEGIN).await?;
        transaction.execute("DEALLOCATE ALL").await?;
        let migrator = Migrator {
            migrations: MIGRATIONS.migrations.clone(),
            // A later tier1 may have been here, in a rolling upgrade.
            ignore_missing: true,
            locking: false,
            ..Migrator::DEFAULT
        };
        migrator.run_direct(None, &mut *transaction, false).await.map_err(failed)?;
        transaction.execute("DEALLOCATE ALL").await?;
        transaction.commit().await
    };
    Ok(timeout(LONG, all).await.map_err(|_| DatabaseError::Slow(LONG))??)
}

fn failed(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        error => sqlx::Error::Migrate(Box::new(error)),
    }
}
