//! One of the replicas leads: it alone makes and unmakes what deployments consist of.
//!
//! As in client-go, a Lease is written only onto the version that was read, and others wait from when they saw it renewed
//! last, by their own clocks.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::api::{ApiError, limited_to};

#[cfg(test)]
mod tests;

/// Name of the Lease in tier2's own namespace.
pub(super) const LEASE: &str = "sinfonia-tier2";

/// How long a leader that falls silent is waited for.
const DURATION: Duration = Duration::from_secs(10);

/// A leader stops that has not renewed its lease for this long, before another one may begin.
const RENEWED_WITHIN: Duration = Duration::from_secs(7);

/// Pause between renewals, and between looks of those who do not lead.
const PAUSE: Duration = Duration::from_secs(2);

/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_millis(500);

/// How long one request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Runs `work` whenever this replica leads, and drops it when it no longer does; for ever.
pub(super) async fn lead<W: Future<Output = ()>>(
    config: &Config,
    namespace: &str,
    identity: &str,
    work: impl Fn() -> W,
) {
    match leases(config, namespace) {
        Ok(api) => Candidate::new(api, identity).stand(work).await,
        // Made of the same configuration as the one that is used for all else.
        Err(error) => tracing::error!(%error, "this replica never leads"),
    }
}

/// Lets another replica lead at once, if this one does.
pub(super) async fn release(config: &Config, namespace: &str, identity: &str) {
    let Ok(api) = leases(config, namespace) else { return };
    if let Err(error) = Candidate::new(api, identity).release().await {
        tracing::debug!(%error, "the lease is not given back; it ends by itself");
    }
}

/// By a client of its own, whose connections end when they say nothing.
fn leases(config: &Config, namespace: &str) -> Result<Api<Lease>, kube::Error> {
    let mut config = config.clone();
    config.connect_timeout = Some(ANSWER_WITHIN);
    config.read_timeout = Some(ANSWER_WITHIN);
    config.write_timeout = Some(ANSWER_WITHIN);
    Ok(Api::namespaced(Client::try_from(config)?, namespace))
}

/// One that would lead, or does.
struct Candidate {
    api: Api<Lease>,
    identity: String,
    seen: Option<Seen>,
}

/// What a lease said, and since when it has.
struct Seen {
    spec: LeaseSpec,
    since: Instant,
}

impl Candidate {
    fn new(api: Api<Lease>, identity: &str) -> Self {
        Self { api, identity: identity.to_owned(), seen: None }
    }

    async fn stand<W: Future<Output = ()>>(mut self, work: impl Fn() -> W) {
        let mut warned = false;
        loop {
            let begin = Instant::now();
            match self.try_hold().await {
                Ok(true) => {
                    warned = false;
                    tracing::info!("this replica leads now");
                    tokio::select! {
                        () = self.hold(begin) => {}
                        () = work() => {}
                    }
                    tracing::info!("this replica no longer leads");
                }
                Ok(false) => warned = false,
                // Another one was quicker.
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(%error, lease = LEASE, "cannot stand for leader; trying on");
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Renews the lease that was written not before `renewed`, until it is somebody else's or in doubt.
    async fn hold(&mut self, mut renewed: Instant) {
        let mut next = renewed + PAUSE;
        loop {
            let end = renewed + RENEWED_WITHIN;
            sleep_until(next.min(end)).await;
            let begin = Instant::now();
            match timeout_at(end, self.try_hold()).await {
                Ok(Ok(true)) => {
                    renewed = begin;
                    next = renewed + PAUSE;
                }
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the lease cannot be renewed");
                    next = Instant::now() + RETRY;
                }
                Err(_) => return,
            }
        }
    }

    /// Takes or renews the lease, unless it is somebody else's.
    async fn try_hold(&mut self) -> Result<bool, ApiError> {
        let read = limited_to(ANSWER_WITHIN, "read the lease", self.api.get_opt(LEASE)).await?;
        let Some(lease) = read else {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.held(&LeaseSpec::default())) };
            let parameters = PostParams::default();
            let made = self.api.create(&parameters, &lease);
            limited_to(ANSWER_WITHIN, "make the lease", made).await?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_take(&spec) {
            return Ok(false);
        }
        self.write(Lease { spec: Some(self.held(&spec)), ..lease }).await?;
        Ok(true)
    }

    async fn release(&mut self) -> Result<(), ApiError> {
        let read = limited_to(ANSWER_WITHIN, "read the lease", self.api.get_opt(LEASE)).await?;
        let Some(lease) = read else { return Ok(()) };
        let transitions = match &lease.spec {
            Some(spec) if self.is_own(spec) => spec.lease_transitions,
            _ => return Ok(()),
        };
        let spec = LeaseSpec { lease_transitions: transitions, ..LeaseSpec::default() };
        self.write(Lease { spec: Some(spec), ..lease }).await
    }

    /// A conflict if it is not any more what was read.
    async fn write(&self, lease: Lease) -> Result<(), ApiError> {
        let parameters = PostParams::default();
        let written = self.api.replace(LEASE, &parameters, &lease);
        limited_to(ANSWER_WITHIN, "write the lease", written).await.map(drop)
    }

    /// Whether nobody else holds the lease, or its holder has been silent for too long.
    fn may_take(&mut self, spec: &LeaseSpec) -> bool {
        let now = Instant::now();
        let since = match &self.seen {
            Some(seen) if seen.spec == *spec => seen.since,
            _ => now,
        };
        self.seen = Some(Seen { spec: spec.clone(), since });
        let is_free = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        let duration = spec.lease_duration_seconds.and_then(|seconds| seconds.try_into().ok());
        is_free || self.is_own(spec) || now - since >= duration.map_or(DURATION, Duration::from_secs)
    }

    /// The lease's specification when it is renewed, or taken from whoever had it.
    fn held(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let renewed = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: DURATION.as_secs().try_into().ok(),
            renew_time: now.clone(),
            ..before.clone()
        };
        if self.is_own(before) {
            return renewed;
        }
        let transitions = before.lease_transitions.unwrap_or_default().saturating_add(1);
        LeaseSpec { acquire_time: now, lease_transitions: Some(transitions), ..renewed }
    }

    fn is_own(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_ref() == Some(&self.identity)
    }
}
