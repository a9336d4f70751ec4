//! What tier1 counts, beside what every server does.

use crate::store::Registry;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use std::{fmt, sync::Weak};

// Values of `outcome`.
const DEPLOYED: &str = "deployed";
const ACCEPTED: &str = "accepted";
const REFUSED: &str = "refused";

/// Counters of one server.
pub(crate) struct Metrics {
    deploys: Counter<u64>,
    reports: Counter<u64>,
}

impl Metrics {
    /// Instruments of the meter; the number of known cloudlets is read when somebody asks for it.
    #[must_use]
    pub(crate) fn new(meter: &Meter, registry: Weak<Registry>) -> Self {
        let _ = meter
            .u64_observable_gauge("sinfonia.tier1.cloudlets")
            .with_unit("{cloudlet}")
            .with_description("Cloudlets that this tier1 knows.")
            .with_callback(move |gauge| {
                if let Some(registry) = registry.upgrade() {
                    gauge.observe(registry.snapshot().len() as u64, &[]);
                }
            })
            .build();
        let metrics = Self {
            deploys: meter
                .u64_counter("sinfonia.tier1.deploys")
                .with_unit("{request}")
                .with_description("Deploy requests, by how they ended.")
                .build(),
            reports: meter
                .u64_counter("sinfonia.tier1.reports")
                .with_unit("{report}")
                .with_description("Reports of cloudlets, by whether they were taken.")
                .build(),
        };
        // A rate is seen from the first one on only if there was none before.
        metrics.deploys.add(0, &[KeyValue::new("outcome", DEPLOYED)]);
        for outcome in [ACCEPTED, REFUSED] {
            metrics.reports.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        metrics
    }

    /// A deploy request ended, with the code of its error if there was one.
    pub(crate) fn deploy(&self, error: Option<&str>) {
        self.deploys.add(1, &[KeyValue::new("outcome", error.unwrap_or(DEPLOYED).to_owned())]);
    }

    /// A report was taken or refused.
    pub(crate) fn report(&self, accepted: bool) {
        self.reports.add(1, &[KeyValue::new("outcome", if accepted { ACCEPTED } else { REFUSED })]);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
