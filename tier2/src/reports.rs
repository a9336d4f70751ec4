//! Tells each tier1 that this cloudlet is there and what it has to spare.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use awc::{
    Client, Connector,
    http::{
        StatusCode,
        header::{AUTHORIZATION, HeaderValue},
    },
};
use futures_util::future::BoxFuture;
use rand::RngExt as _;
use sinfonia_credentials::{BearerToken, TokenSource};
use sinfonia_telemetry::propagation;
use sinfonia_tls::ClientConfig;
use sinfonia_wire::{API_BASE, CloudletInfo, Problem};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{Instrument as _, Span, field::Empty};
use url::{Host, Url};

use crate::metrics;

mod host;

pub(crate) use host::HostReport;

/// How long one report may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest pause while a tier1 is away. A cloudlet is forgotten after 5 minutes of silence.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest answer that is read for its reason, bytes.
const ANSWER_LIMIT: usize = 64 << 10;

/// Tells what there is to report.
pub trait ReportSource: Send + Sync {
    /// The cloudlet as it is now, or why it is not to be reported. Asked for each report to each tier1.
    fn report(&self) -> BoxFuture<'_, Result<CloudletInfo, NotReady>>;
}

/// Why the cloudlet is not to be reported from here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotReady {
    /// Clients could not be served: a sentence that says why.
    #[error("{0}")]
    Unfit(String),
    /// Another replica does it.
    #[error("another replica leads, and reports")]
    Follower,
}

/// Reports to tier1s. Clones share what was said in the log.
#[derive(Clone)]
pub struct Reporter {
    source: Arc<dyn ReportSource>,
    interval: Duration,
    trust: Option<Arc<ClientConfig>>,
    token: Option<TokenSource>,
    unready: Arc<Mutex<Option<NotReady>>>,
    now: Arc<watch::Sender<()>>,
}

impl Reporter {
    /// Will report what `source` tells every `interval`; `trust` says whose certificates tier1s may have, where that is
    /// not the public authorities alone.
    #[must_use]
    pub fn new(source: Arc<dyn ReportSource>, interval: Duration, trust: Option<Arc<ClientConfig>>) -> Self {
        Self { source, interval, trust, token: None, unready: Arc::default(), now: Arc::new(watch::channel(()).0) }
    }

    /// Presents a token with each report.
    #[must_use]
    pub fn with_token(mut self, token: Option<TokenSource>) -> Self {
        self.token = token;
        self
    }

    /// Makes every tier1 be told at once, without waiting for the interval's end.
    pub fn tell_now(&self) {
        self.now.send_replace(());
    }

    /// Reports to `tier1` at once and then every interval, for ever. To be run on an actix runtime.
    pub async fn report(self, tier1: Url) {
        let client = Client::builder().timeout(LIMIT);
        let client = match &self.trust {
            Some(trust) => client.connector(Connector::new().rustls_0_23(Arc::clone(trust))).finish(),
            None => client.finish(),
        };
        metrics::begin();
        let mut told = self.now.subscribe();
        if self.token.is_some() && is_overheard(&tier1) {
            tracing::warn!(%tier1, "the token for tier1 is sent without encryption: use https");
        }
        let mut failures = 0u32;
        loop {
            if let Some(cloudlet) = self.cloudlet().await {
                let token = self.token.as_ref().and_then(TokenSource::token);
                let taken = deliver(&client, &tier1, token, &cloudlet, failures).await;
                failures = if taken { 0 } else { failures.saturating_add(1) };
            }
            let pause = pause(self.interval, failures, rand::rng().random_range(0.5..=1.0));
            // It cannot end: the sender is ours.
            let _ = tokio::time::timeout(pause, told.changed()).await;
        }
    }

    /// What is to be reported, if anything is. The log tells when that changes.
    async fn cloudlet(&self) -> Option<CloudletInfo> {
        let report = self.source.report().await;
        let reason = report.as_ref().err().cloned();
        let before = {
            let mut unready = self.unready.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *unready, reason.clone())
        };
        match (before, reason) {
            (before, Some(reason)) if before.as_ref() != Some(&reason) => match reason {
                NotReady::Unfit(_) => tracing::warn!("not reporting to tier1: {reason}"),
                NotReady::Follower => tracing::info!("not reporting to tier1: {reason}"),
            },
            (Some(_), None) => tracing::info!("ready: reporting to tier1"),
            _ => {}
        }
        report.ok()
    }
}

/// Sends one report; `failures` were not taken before it.
async fn deliver(
    client: &Client,
    tier1: &Url,
    token: Option<BearerToken>,
    cloudlet: &CloudletInfo,
    failures: u32,
) -> bool {
    let span = tracing::info_span!(
        "report",
        otel.kind = "client",
        http.request.method = "POST",
        server.address = tier1.host_str(),
        server.port = tier1.port_or_known_default().map(i64::from),
        http.response.status_code = Empty,
        otel.status_code = Empty,
        "error.type" = Empty,
    );
    let result = send(client, tier1, token, cloudlet).instrument(span.clone()).await;
    metrics::reported(result.is_ok());
    if let Err(error) = &result {
        span.record("error.type", &*error.kind()).record("otel.status_code", "ERROR");
    }
    match (&result, failures) {
        (Ok(()), 0) => tracing::debug!(%tier1, "reported"),
        (Ok(()), _) => tracing::info!(%tier1, "reports are taken again"),
        (Err(error), 0) => tracing::warn!(%tier1, %error, "a report was not taken; trying on"),
        (Err(error), _) => tracing::debug!(%tier1, %error, "a report was not taken"),
    }
    result.is_ok()
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

impl ReportError {
    /// What OpenTelemetry calls the type of the error.
    fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::NotSent(_) => "unreachable".into(),
            Self::Silent => "timeout".into(),
            Self::Refused { status, .. } => status.as_str().to_owned().into(),
        }
    }
}

async fn send(
    client: &Client,
    tier1: &Url,
    token: Option<BearerToken>,
    cloudlet: &CloudletInfo,
) -> Result<(), ReportError> {
    // The reference's tier1 redirects without the slash.
    let url = format!("{}{API_BASE}/cloudlets/", tier1.as_str().trim_end_matches('/'));
    let mut request = client.post(url).force_close();
    propagation::inject(&mut |name, value| {
        if let (Ok(name), Ok(value)) = (name.parse::<awc::http::header::HeaderName>(), value.parse()) {
            request.headers_mut().insert(name, value);
        }
    });
    if let Some(token) = token
        && let Ok(mut value) = HeaderValue::try_from(token.authorization().as_str())
    {
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let exchange = async {
        let mut answer = request.send_json(cloudlet).await.map_err(|error| ReportError::NotSent(error.to_string()))?;
        let status = answer.status();
        Span::current().record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_success() {
            return Ok(());
        }
        let body = answer.body().limit(ANSWER_LIMIT).await.unwrap_or_default();
        let problem = Problem::from_answer(status.as_u16(), &body);
        Err(ReportError::Refused { status, detail: problem.detail.unwrap_or(problem.title) })
    };
    tokio::time::timeout(LIMIT, exchange).await.unwrap_or(Err(ReportError::Silent))
}

/// Whether others than this machine carry what is sent there, in the clear.
fn is_overheard(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    url.scheme() == "http" && !is_here
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
