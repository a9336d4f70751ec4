//! What cloudlets reported in the past.

use super::{
    Store,
    database::{Database, DatabaseError},
    unnamed::Unnamed,
};
use sinfonia_wire::CloudletId;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use thiserror::Error;
use time::OffsetDateTime;

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
    /// It cannot be read now.
    #[error("the database is not available now; try again")]
    Unavailable(#[from] DatabaseError),
}

impl Store {
    /// How a cloudlet's resources were.
    ///
    /// # Errors
    /// Without a database, or when it is not available.
    pub(crate) async fn history(&self, id: CloudletId, span: Span) -> Result<Vec<Sample>, HistoryError> {
        let durable = self.durable.as_ref().ok_or(HistoryError::None)?;
        Ok(read(&durable.database, id, span).await?)
    }
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
