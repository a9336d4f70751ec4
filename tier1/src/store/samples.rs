//! What cloudlets reported in the past.

use super::{
    Store,
    database::{Database, DatabaseError},
    unnamed::Unnamed,
};
use sinfonia_wire::CloudletId;
use sqlx::PgConnection;
use std::{collections::BTreeMap, time::Duration};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Histories that are read at a time. Each may take as long as a statement may, and reports, tokens and changes need
/// connections, too.
pub(super) const READERS: usize = 2;
/// How long a history waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// A stretch of time, its steps counted from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: OffsetDateTime,
    /// Not part of it.
    pub(crate) to: OffsetDateTime,
    /// Seconds.
    pub(crate) step: u32,
}

/// What was reported within one step, on average.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// When the step begins.
    pub(crate) at: OffsetDateTime,
    pub(crate) resources: BTreeMap<String, f64>,
}

/// Why there is no history.
#[derive(Debug, Error)]
pub(crate) enum HistoryError {
    /// Nothing is kept.
    #[error("this tier1 has no database, and remembers only the last report: give --database-url")]
    None,
    /// Others are being read.
    #[error("other histories are being read, at most {READERS} at a time: try again, or ask for less time at once")]
    Busy,
    /// It cannot be read now.
    #[error("the database is not available now; try again")]
    Unavailable(#[from] DatabaseError),
}

impl Store {
    /// How a cloudlet's resources were.
    ///
    /// # Errors
    /// Without a database, when it is not available, or when others keep it busy.
    pub(crate) async fn history(&self, id: CloudletId, span: Span) -> Result<Vec<Sample>, HistoryError> {
        let durable = self.durable.as_ref().ok_or(HistoryError::None)?;
        let _turn = turn(&durable.readers).await?;
        Ok(read(&durable.database, id, span).await?)
    }
}

async fn turn(readers: &Semaphore) -> Result<SemaphorePermit<'_>, HistoryError> {
    // It is never closed.
    timeout(TURN, readers.acquire()).await.ok().and_then(Result::ok).ok_or(HistoryError::Busy)
}

/// The steps for which there is something, in their order.
async fn read(database: &Database, cloudlet: CloudletId, span: Span) -> Result<Vec<Sample>, DatabaseError> {
    let rows = database
        .run(async |connection: &mut PgConnection| {
            let rows = sqlx::query!(
                r#"SELECT to_timestamp(floor(extract(epoch FROM at)::float8 / $4::float8) * $4::float8) AS "at!",
                       key AS "name!",
                       avg(value::float8) AS "value!"
                   FROM metrics, json_each_text(resources)
                   WHERE cloudlet = $1 AND at >= $2 AND at < $3
                   GROUP BY 1, 2 ORDER BY 1, 2"#,
                cloudlet.uuid(),
                span.from,
                span.to,
                f64::from(span.step),
            );
            rows.fetch_all(Unnamed(connection)).await
        })
        .await?;
    let mut samples: Vec<Sample> = Vec::new();
    for row in rows {
        if samples.last().is_none_or(|sample| sample.at != row.at) {
            samples.push(Sample { at: row.at, resources: BTreeMap::new() });
        }
        if let Some(sample) = samples.last_mut() {
            sample.resources.insert(row.name, row.value);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn histories_wait_for_their_turn_and_not_for_long() {
        let readers = Semaphore::new(1);
        let first = turn(&readers).await.unwrap();
        assert!(matches!(turn(&readers).await, Err(HistoryError::Busy)));
        let (second, ()) = tokio::join!(turn(&readers), async { drop(first) });
        assert!(second.is_ok());
    }
}
