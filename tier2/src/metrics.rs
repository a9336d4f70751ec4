//! What is measured: deployments by state, time to ready, failures, reports.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use sinfonia_telemetry::{
    meter,
    opentelemetry::{
        KeyValue,
        metrics::{Counter, Histogram, ObservableGauge},
    },
};

use sinfonia_wire::DeploymentStatus;

struct Instruments {
    ready: Histogram<f64>,
    failures: Counter<u64>,
    reports: Counter<u64>,
}

// Values of `outcome`.
const TAKEN: &str = "taken";
const FAILED: &str = "failed";

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| Instruments {
    ready: meter()
        .f64_histogram("sinfonia.deployment.ready.duration")
        .with_unit("s")
        .with_description("Time from the start of an installation until the backend answers.")
        .with_boundaries(vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0])
        .build(),
    failures: meter()
        .u64_counter("sinfonia.deployment.failures")
        .with_unit("{deployment}")
        .with_description("Installations that failed, by what failed.")
        .build(),
    reports: meter()
        .u64_counter("sinfonia.reports")
        .with_unit("{report}")
        .with_description("Reports sent to tier1, by outcome.")
        .build(),
});

/// A backend became usable this long after its installation began.
pub(crate) fn ready(time: Duration) {
    INSTRUMENTS.ready.record(time.as_secs_f64(), &[]);
}

/// An installation failed; `code` is one of few words.
pub(crate) fn failed(code: &str) {
    INSTRUMENTS.failures.add(1, &[KeyValue::new("error.type", code.to_owned())]);
}

/// A report was taken, or not.
pub(crate) fn reported(taken: bool) {
    let outcome = if taken { TAKEN } else { FAILED };
    INSTRUMENTS.reports.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// Shows that no report was made so far: a rate is seen from the first one on only if there was none before.
pub(crate) fn begin() {
    for outcome in [TAKEN, FAILED] {
        INSTRUMENTS.reports.add(0, &[KeyValue::new("outcome", outcome)]);
    }
}

/// Shows how many deployments there are in each state, of those that `states` gives.
pub(crate) fn watch<I>(states: impl Fn() -> I + Send + Sync + 'static) -> ObservableGauge<u64>
where
    I: IntoIterator<Item = DeploymentStatus>,
{
    meter()
        .u64_observable_gauge("sinfonia.deployments")
        .with_unit("{deployment}")
        .with_description("Deployments of this cloudlet by state.")
        .with_callback(move |gauge| {
            for (state, count) in census(states()) {
                gauge.observe(count, &[KeyValue::new("state", state)]);
            }
        })
        .build()
}

/// Shows whether this replica is the one that carries out what all are asked for.
pub(crate) fn watch_leadership(leads: impl Fn() -> bool + Send + Sync + 'static) -> ObservableGauge<u64> {
    meter()
        .u64_observable_gauge("sinfonia.leader")
        .with_unit("{leader}")
        .with_description("1 if this replica leads the cloudlet, 0 if another does or none.")
        .with_callback(move |gauge| gauge.observe(leads().into(), &[]))
        .build()
}

/// Shows of how many deployments something fails and is tried again.
pub(crate) fn watch_retrying(retrying: impl Fn() -> u64 + Send + Sync + 'static) -> ObservableGauge<u64> {
    meter()
        .u64_observable_gauge("sinfonia.deployments.retrying")
        .with_unit("{deployment}")
        .with_description("Deployments of which something fails and is tried again.")
        .with_callback(move |gauge| gauge.observe(retrying(), &[]))
        .build()
}

/// Shows how many namespaces of deployments do not end.
pub(crate) fn watch_endless(endless: impl Fn() -> u64 + Send + Sync + 'static) -> ObservableGauge<u64> {
    meter()
        .u64_observable_gauge("sinfonia.namespaces.endless")
        .with_unit("{namespace}")
        .with_description("Namespaces of deployments that have been ending for more than five minutes, at the leader.")
        .with_callback(move |gauge| gauge.observe(endless(), &[]))
        .build()
}

/// How many there are in each state, also of those that none is in.
fn census(states: impl IntoIterator<Item = DeploymentStatus>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::from([("initializing", 0), ("deployed", 0), ("expiring", 0), ("expired", 0)]);
    for state in states {
        let name = match state {
            DeploymentStatus::Initializing => "initializing",
            DeploymentStatus::Deployed => "deployed",
            DeploymentStatus::Expiring => "expiring",
            DeploymentStatus::Expired => "expired",
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_without_deployments_count_zero() {
        let counts = census([DeploymentStatus::Deployed, DeploymentStatus::Expiring, DeploymentStatus::Deployed]);
        assert_eq!(counts, [("deployed", 2), ("expired", 0), ("expiring", 1), ("initializing", 0)].into());
    }
}
