//! Metrics of this process as Prometheus text.

use std::sync::LazyLock;

use opentelemetry::metrics::Meter;
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

pub(crate) fn registry() -> Registry {
    REGISTRY.clone()
}
