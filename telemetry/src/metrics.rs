//! Metrics of this process as Prometheus text.

use std::sync::LazyLock;

use opentelemetry::metrics::Meter;
use prometheus::core::Collector;
use prometheus::{Registry, TextEncoder};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// The meter for Sinfonia's own instruments. Instruments made before [`crate::init`] record nothing.
pub fn meter() -> Meter {
    opentelemetry::global::meter("sinfonia")
}

/// All metrics in the Prometheus text format (version 0.0.4).
pub fn prometheus_text() -> String {
    TextEncoder::new().encode_to_string(&REGISTRY.gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "the metrics cannot be written as text");
        String::new()
    })
}

/// Shows metrics that have to keep names of their own beside the others. They are not exported to a collector.
///
/// # Errors
/// If another collector has such a metric already.
pub fn register(collector: Box<dyn Collector>) -> Result<(), prometheus::Error> {
    REGISTRY.register(collector)
}

pub(crate) fn registry() -> Registry {
    REGISTRY.clone()
}
