//! Tells each tier1 that this cloudlet is there and what it has to spare.

use std::time::Duration;

use awc::{Client, http::StatusCode};
use rand::RngExt as _;
use sinfonia_telemetry::propagation;
use sinfonia_wire::{API_BASE, CloudletInfo, Problem};
use thiserror::Error;
use tracing::Instrument as _;
use url::Url;

use crate::{metrics, resources::Sampler};

/// How long one report may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest pause while a tier1 is away. A cloudlet is forgotten after 5 minutes of silence.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest answer that is read for its reason, bytes.
const ANSWER_LIMIT: usize = 64 << 10;

/// Reports about `cloudlet` to `tier1` at once and then every `interval`, for ever. To be run on an actix runtime.
pub(crate) async fn report(tier1: Url, cloudlet: CloudletInfo, interval: Duration) {
    let client = Client::builder().timeout(LIMIT).finish();
    let mut sampler = Sampler::start();
    let mut failures = 0u32;
    loop {
        let mut cloudlet = cloudlet.clone();
        cloudlet.resources = sampler.sample();
        let span = tracing::info_span!("report", otel.kind = "client", server.address = tier1.host_str());
        let result = send(&client, &tier1, &cloudlet).instrument(span).await;
        metrics::reported(result.is_ok());
        match (&result, failures) {
            (Ok(()), 0) => tracing::debug!(%tier1, "reported"),
            (Ok(()), _) => tracing::info!(%tier1, "reports are taken again"),
            (Err(error), 0) => tracing::warn!(%tier1, %error, "a report was not taken; trying on"),
            (Err(error), _) => tracing::debug!(%tier1, %error, "a report was not taken"),
        }
        failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
        tokio::time::sleep(pause(interval, failures, rand::rng().random_range(0.5..=1.0))).await;
    }
}

/// Why a report was not taken.
#[derive(Debug, Error)]
enum ReportError {
    #[error("cannot be asked: {0}")]
    NotSent(String),
    #[error("no answer within {} s", LIMIT.as_secs())]
    Silent,
    #[error("answers {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
}

async fn send(client: &Client, tier1: &Url, cloudlet: &CloudletInfo) -> Result<(), ReportError> {
    // The reference's tier1 redirects without the slash.
    let url = format!("{}{API_BASE}/cloudlets/", tier1.as_str().trim_end_matches('/'));
    let mut request = client.post(url).force_close();
    propagation::inject(&mut |name, value| {
        if let (Ok(name), Ok(value)) = (name.parse::<awc::http::header::HeaderName>(), value.parse()) {
            request.headers_mut().insert(name, value);
        }
    });
    let exchange = async {
        let mut answer = request.send_json(cloudlet).await.map_err(|error| ReportError::NotSent(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = answer.body().limit(ANSWER_LIMIT).await.unwrap_or_default();
        let problem = Problem::from_answer(status.as_u16(), &body);
        Err(ReportError::Refused { status, detail: problem.detail.unwrap_or(problem.title) })
    };
    tokio::time::timeout(LIMIT, exchange).await.unwrap_or(Err(ReportError::Silent))
}

/// The interval after a success; after failures 1, 2, 4 ... seconds up to a minute, less up to half so that the
/// cloudlets of a tier1 that returns do not come all at once.
fn pause(interval: Duration, failures: u32, jitter: f64) -> Duration {
    match failures.checked_sub(1) {
        None => interval,
        Some(doublings) => Duration::from_secs(1 << doublings.min(6)).min(LONGEST_PAUSE).mul_f64(jitter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_a_tier1_is_away() {
        let interval = Duration::from_secs(15);
        assert_eq!(pause(interval, 0, 0.5), interval);
        let pauses: Vec<u64> = (1..10).map(|n| pause(interval, n, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(interval, u32::MAX, 0.5), Duration::from_secs(30));
    }
}
