//! The days of the metrics history: made ahead, dropped when they are old.

use super::{
    database::{Database, DatabaseError},
    unnamed::Unnamed,
};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use time::{Date, Duration, OffsetDateTime, macros::format_description};

/// Days that there is a partition for in advance: as long as nobody can make one.
const AHEAD: i64 = 3;

/// Makes the days to come and drops those that are older than `days`.
pub(super) async fn turn(database: &Database, days: u16) -> Result<(), DatabaseError> {
    database.run(make_partitions).await?;
    // Each by itself: readers hold them up, and so does the lock for those that write.
    let old = database
        .run(async |connection: &mut PgConnection| {
            let today = today(connection).await?;
            let oldest = name(today - Duration::days(days.into()));
            let names = sqlx::query_scalar!(
                r#"SELECT c.relname::text AS "name!" FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
                   WHERE inhparent = 'metrics'::regclass AND c.relname ~ '^metrics_[0-9]{8}$'
                       AND c.relname::text COLLATE "C" < $1 ORDER BY 1"#,
                oldest
            );
            names.fetch_all(Unnamed(connection)).await
        })
        .await?;
    for partition in old {
        database
            .run(async |connection: &mut PgConnection| {
                // The name is digits after a fixed word.
                connection.execute(AssertSqlSafe(format!("DROP TABLE IF EXISTS {partition}"))).await
            })
            .await?;
    }
    Ok(())
}

/// Makes the partitions from yesterday on, in case that clocks differ.
pub(super) async fn make_partitions(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('sinfonia-tier1 partitions'))")
        .execute(Unnamed(&mut *connection))
        .await?;
    let today = today(connection).await?;
    for day in (-1..=AHEAD).map(|days| today + Duration::days(days)) {
        let table = name(day);
        let known = sqlx::query_scalar!("SELECT to_regclass($1) IS NOT NULL", table)
            .fetch_one(Unnamed(&mut *connection))
            .await?;
        if known != Some(true) {
            let sql = format!(
                "CREATE TABLE {table} PARTITION OF metrics FOR VALUES FROM ('{day} 00:00Z') TO ('{} 00:00Z')",
                day + Duration::days(1)
            );
            connection.execute(AssertSqlSafe(sql)).await?;
        }
    }
    Ok(())
}

async fn today(connection: &mut PgConnection) -> Result<Date, sqlx::Error> {
    let now: OffsetDateTime =
        sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(Unnamed(connection)).await?;
    Ok(now.to_offset(time::UtcOffset::UTC).date())
}

fn name(day: Date) -> String {
    let digits = day.format(format_description!("[year][month][day]")).unwrap_or_default();
    format!("metrics_{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_days() {
        let day = Date::from_calendar_date(2026, time::Month::September, 30).unwrap();
        assert_eq!(name(day), "metrics_20260930");
        assert!(name(day) < name(day + Duration::days(1)));
    }
}
