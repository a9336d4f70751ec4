//! What has to be done now and then, by whichever replica comes first: dropping silent cloudlets, old changes, old
//! holders and old history.

use super::{
    Registry,
    database::{Database, DatabaseError},
    follower::Reader,
    history, holdings,
    unnamed::Unnamed,
};
use crate::domain::cloudlet::SILENCE;
use sqlx::{PgConnection, types::Uuid};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// How often silent cloudlets are looked for.
const TICK: Duration = Duration::from_secs(5);
/// Ticks between looks at the history.
const HISTORY: u32 = 120;
/// Nobody has looked for so long: reports could not be taken, and silence begins anew for everyone.
const GAP: Duration = Duration::from_secs(20);
/// How long changes are kept, at least.
const CHANGES: Duration = Duration::from_secs(120);
/// Cloudlets in one transaction.
const GROUP: usize = 1_000;

pub(super) async fn upkeep(database: Database, registry: Arc<Registry>, reader: Reader, history_days: u16) {
    let (mut ticks, mut count, mut failing) = (interval(TICK), 0_u32, false);
    let mut are_more = false;
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !reader.is_loaded() {
            continue;
        }
        let mut result = expire(&database, &registry, &reader).await;
        if count.is_multiple_of(HISTORY) {
            result = result.and(history::turn(&database, history_days).await);
        }
        // Some with each tick until all are gone: silence is looked for in between.
        if are_more || count.is_multiple_of(HISTORY) {
            let pruned = holdings::prune(&database).await;
            are_more = *pruned.as_ref().unwrap_or(&true);
            result = result.and(pruned.map(drop));
        }
        count = count.wrapping_add(1);
        match result {
            Ok(()) => failing = false,
            Err(error) if std::mem::replace(&mut failing, true) => tracing::debug!(%error, "upkeep still fails"),
            Err(error) => warn!(%error, "upkeep of the database failed and is tried again; no cloudlet expires now"),
        }
    }
}

/// Drops those that have been silent although they could have been heard.
async fn expire(database: &Database, registry: &Registry, reader: &Reader) -> Result<(), DatabaseError> {
    let is_due = database.run(async |c: &mut PgConnection| tick(c).await).await?;
    if !is_due {
        return Ok(());
    }
    let silent: Vec<Uuid> = registry.silent(Instant::now(), GROUP).await.iter().map(|id| id.uuid()).collect();
    if silent.is_empty() {
        return Ok(());
    }
    let dropped = database.run(async |c: &mut PgConnection| drop_silent(c, &silent).await).await?;
    if dropped > 0 {
        info!(dropped, "cloudlets have not reported for 5 minutes");
        reader.read().await;
    }
    Ok(())
}

/// Says that reports can be taken, and returns whether they could for as long as cloudlets may be silent.
async fn tick(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let is_due = sqlx::query_scalar!(
        r#"UPDATE service SET
            since = CASE WHEN clock_timestamp() - alive > make_interval(secs => $1) THEN clock_timestamp() ELSE since END,
            alive = clock_timestamp()
        RETURNING clock_timestamp() - since > make_interval(secs => $2) AS "due!""#,
        GAP.as_secs_f64(),
        SILENCE.as_secs_f64()
    )
    .fetch_one(Unnamed(&mut *connection))
    .await?;
    // Neither removed nor marked while somebody reads everything, who will read on from the state he sees.
    sqlx::query!(
        "WITH old AS MATERIALIZED (
            SELECT mark FROM service WHERE clock_timestamp() - marked > make_interval(secs => $1)
                AND pg_try_advisory_xact_lock(hashtext('sinfonia-tier1 reading'))
        ), marked AS (
            UPDATE service SET mark = pg_current_snapshot(), marked = clock_timestamp() WHERE EXISTS (SELECT FROM old)
        )
        DELETE FROM changes USING old
        WHERE xid < pg_snapshot_xmax(old.mark) AND pg_visible_in_snapshot(xid, old.mark)",
        CHANGES.as_secs_f64()
    )
    .execute(Unnamed(connection))
    .await?;
    Ok(is_due)
}

/// Drops those of them that are silent, judged when nobody can report for them any more.
async fn drop_silent(connection: &mut PgConnection, ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    // In the order of the writers: cloudlets, then pulses, each by id.
    let locked =
        sqlx::query_scalar!("SELECT id FROM cloudlets WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED", ids)
            .fetch_all(Unnamed(&mut *connection))
            .await?;
    let silent = sqlx::query_scalar!(
        "SELECT id FROM pulses WHERE id = ANY($1) AND heard < clock_timestamp() - make_interval(secs => $2)
        ORDER BY id FOR UPDATE SKIP LOCKED",
        &locked,
        SILENCE.as_secs_f64()
    )
    .fetch_all(Unnamed(&mut *connection))
    .await?;
    let gone = sqlx::query!("DELETE FROM cloudlets WHERE id = ANY($1)", &silent).execute(Unnamed(connection)).await?;
    Ok(gone.rows_affected())
}
