//! What tier1 counts, beside what every server does.

use crate::store::Registry;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use std::{fmt, sync::Weak};

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
            .with_description("Known cloudlets")
            .with_callback(move |gauge| {
                if let Some(registry) = registry.upgrade() {
                    gauge.observe(registry.snapshot().len() as u64, &[]);
                }
            })
            .build();
        Self {
            deploys: meter.u64_counter("sinfonia.tier1.deploys").with_description("Deploy requests").build(),
            reports: meter.u64_counter("sinfonia.tier1.reports").with_description("Reports of cloudlets").build(),
        }
    }

    /// A deploy request ended, with the code of its error if there was one.
    pub(crate) fn deploy(&self, error: Option<&str>) {
        self.deploys.add(1, &[KeyValue::new("outcome", error.unwrap_or("deployed").to_owned())]);
    }

    /// A report was taken or refused.
    pub(crate) fn report(&self, accepted: bool) {
        self.reports.add(1, &[KeyValue::new("outcome", if accepted { "accepted" } else { "refused" })]);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
