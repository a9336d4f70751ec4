//! What is measured: deployments by state, time to ready, failures, reports.

use std::{sync::LazyLock, time::Duration};

use sinfonia_telemetry::{
    meter,
    opentelemetry::{
        KeyValue,
        metrics::{Counter, Histogram, ObservableGauge},
    },
};

use crate::registry::Registry;

struct Instruments {
    ready: Histogram<f64>,
    failures: Counter<u64>,
    reports: Counter<u64>,
}

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
        .with_description("Installations that failed.")
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

/// An installation failed.
pub(crate) fn failed() {
    INSTRUMENTS.failures.add(1, &[]);
}

/// A report was taken, or not.
pub(crate) fn reported(taken: bool) {
    let outcome = if taken { "taken" } else { "failed" };
    INSTRUMENTS.reports.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// Shows the registry's deployments by state.
pub(crate) fn watch(registry: &Registry) -> ObservableGauge<u64> {
    let registry = registry.clone();
    meter()
        .u64_observable_gauge("sinfonia.deployments")
        .with_unit("{deployment}")
        .with_description("Deployments of this cloudlet by state.")
        .with_callback(move |gauge| {
            for (state, count) in registry.census() {
                gauge.observe(count, &[KeyValue::new("state", state)]);
            }
        })
        .build()
}
