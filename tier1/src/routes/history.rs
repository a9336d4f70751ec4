//! `GET /cloudlets/{uuid}/metrics`: how a cloudlet's resources were.

use super::{
    cloudlets::{identity, unknown},
    openapi::HistoryRefusals,
    unavailable,
};
use crate::{
    service::Service,
    store::{HistoryError, Span, UNAVAILABLE},
};
use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path, Query},
};
use serde::{Deserialize, Serialize};
use sinfonia_server::ApiError;
use sinfonia_wire::CloudletId;
use std::{collections::BTreeMap, num::NonZeroU32};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

/// Steps of one answer at most, as many as Prometheus gives.
const MOST: i64 = 11_000;
/// Steps of an answer for which no step is asked.
const USUAL: i64 = 60;
/// Histories have no more than about one entry per minute, seconds.
const MINUTE: u32 = 60;

/// What part of the history.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// RFC 3339, or Unix seconds; an hour before `to` unless stated.
    #[param(required = false, value_type = String)]
    from: Option<String>,
    /// RFC 3339, or Unix seconds; now unless stated.
    #[param(required = false, value_type = String)]
    to: Option<String>,
    /// Seconds; about a sixtieth of the time unless stated.
    #[param(required = false, value_type = u32, minimum = 1)]
    step: Option<NonZeroU32>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    cloudlet: CloudletId,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    to: OffsetDateTime,
    /// Seconds.
    step: u32,
    /// Averages; steps without a report are left out.
    points: Vec<Point>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Point {
    /// When the step begins.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    at: OffsetDateTime,
    resources: BTreeMap<String, f64>,
}

/// Answers with averages over steps.
#[utoipa::path(
    get,
    path = "/api/v1/cloudlets/{uuid}/metrics",
    operation_id = "getCloudletMetrics",
    tag = "cloudlets",
    summary = "How a cloudlet's resources were",
    description = "Averages over steps, for tier1s with a database.",
    params(("uuid" = CloudletId, Path, description = "The cloudlet."), Part),
    responses((status = 200, description = "The steps for which there are reports.", body = History), HistoryRefusals)
)]
pub(super) async fn get(
    service: Data<Service>,
    uuid: Path<String>,
    part: Query<Part>,
) -> Result<HttpResponse, ApiError> {
    let cloudlet = identity(&uuid)?;
    let span = span(&part, OffsetDateTime::now_utc())?;
    if service.registry.snapshot().get(cloudlet).is_none() {
        return Err(unknown(cloudlet));
    }
    let samples = service.store.history(cloudlet, span).await.map_err(history_error)?;
    let points = samples.into_iter().map(|sample| Point { at: sample.at, resources: sample.resources }).collect();
    let Span { from, to, step } = span;
    Ok(HttpResponse::Ok().json(History { cloudlet, from, to, step, points }))
}

fn span(part: &Part, now: OffsetDateTime) -> Result<Span, ApiError> {
    let to = moment("to", part.to.as_deref())?.unwrap_or(now);
    let hour_before = to.checked_sub(Duration::HOUR).unwrap_or(to);
    let from = moment("from", part.from.as_deref())?.unwrap_or(hour_before);
    let length = (to - from).whole_seconds();
    if length <= 0 {
        return Err(invalid("from has to be before to"));
    }
    let usual = u32::try_from(length / USUAL).unwrap_or(u32::MAX).div_ceil(MINUTE).max(1).saturating_mul(MINUTE);
    let step = part.step.map_or(usual, NonZeroU32::get);
    if length / i64::from(step) > MOST {
        return Err(invalid(format!("more than {MOST} steps: ask for a longer step, or for less time")));
    }
    Ok(Span { from, to, step })
}

fn moment(name: &str, text: Option<&str>) -> Result<Option<OffsetDateTime>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let unix = || text.parse().ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(unix);
    // What a database can hold.
    let moment = moment.filter(|moment| (1970..=9999).contains(&moment.year()));
    let reason = || invalid(format!("{name} is neither a time as 2026-11-26T12:00:00Z nor in Unix seconds"));
    moment.map(Some).ok_or_else(reason)
}

fn invalid(detail: impl Into<String>) -> ApiError {
    ApiError::bad_request("invalid-query", detail)
}

fn history_error(error: HistoryError) -> ApiError {
    let detail = error.to_string();
    match error {
        HistoryError::None => ApiError::new(StatusCode::NOT_IMPLEMENTED, "no-history", detail),
        HistoryError::Busy => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "history-busy", detail).with_retry_after(UNAVAILABLE)
        }
        HistoryError::Unavailable(error) => {
            warn!(%error, "a history was not read");
            unavailable(detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-26 12:00 UTC);

    fn asked(from: Option<&str>, to: Option<&str>, step: Option<u32>) -> Result<(i64, u32), String> {
        let part = Part { from: from.map(Into::into), to: to.map(Into::into), step: step.and_then(NonZeroU32::new) };
        let span = span(&part, NOW).map_err(|error| error.to_string())?;
        Ok(((span.to - span.from).whole_seconds(), span.step))
    }

    #[test]
    fn an_hour_by_the_minute_unless_stated() {
        assert_eq!(asked(None, None, None), Ok((3600, 60)));
        assert_eq!(asked(Some("2026-11-25T12:00:00Z"), None, None), Ok((86_400, 1440)));
        assert_eq!(asked(Some("0"), Some("90"), Some(7)), Ok((90, 7)));
        assert_eq!(asked(Some("2026-11-26T13:00:00+02:00"), None, Some(5)), Ok((3600, 5)));
    }

    #[test]
    fn bad_parts_are_explained() {
        for (from, to, step, reason) in [
            (Some("yesterday"), None, None, "from is neither"),
            (None, Some("99999999999999"), None, "to is neither"),
            (Some("2026-11-27T00:00:00Z"), None, None, "before"),
            (Some("0"), None, Some(1), "11000 steps"),
        ] {
            let error = asked(from, to, step).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
