//! Logs, traces and metrics of every Sinfonia program, set up by one call of [`init`].
//!
//! Logs go to standard error. Spans always have W3C trace ids, so that the logs of the three tiers can
//! be joined; spans and metrics leave the process only when the standard `OTEL_*` variables name a
//! collector. Metrics are readable as Prometheus text at any time.

mod afresh;
mod export;
mod fields;
mod logs;
mod metrics;
pub mod propagation;
mod trace_id;

use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use metrics::{meter, prometheus_text, register};
pub use opentelemetry;

/// Longest time that a program waits at its end for a collector to take what is left.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// How much a program logs unless `RUST_LOG` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors as plain text: a command line program.
    Quiet,
    /// Information too, as text on a terminal and JSON otherwise: a server.
    Normal,
    /// Everything Sinfonia's own code says, as plain text with times: a command line program asked to
    /// explain itself.
    Debug,
}

/// Keeps telemetry running. Dropping it hands what is left to the collector, for at most one second.
#[must_use = "telemetry ends when this is dropped"]
#[derive(Debug)]
pub struct Telemetry {
    tracer: SdkTracerProvider,
    meter: SdkMeterProvider,
    exporting: bool,
}

/// Starts logging, tracing and metrics for the program called `service_name` (`service.name` of what
/// is exported, unless `OTEL_SERVICE_NAME` names another).
///
/// Only the first call in a process has effect. Without a collector no thread is started. With `OTEL_SDK_DISABLED=true`
/// there are only logs.
pub fn init(service_name: &'static str, verbosity: Verbosity) -> Telemetry {
    let resource = export::resource(service_name);
    let enabled = !export::disabled();
    let (tracer, traces) = export::tracer_provider(resource.clone(), enabled);
    let (meter, metrics) = export::meter_provider(resource, enabled);

    // What is exported does not depend on what is logged, and never holds spans of libraries.
    let own_spans = match verbosity {
        Verbosity::Quiet | Verbosity::Normal => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
    };
    let spans = enabled.then(|| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer.tracer("sinfonia"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // Nobody asks for the current context but through the current span.
            .with_context_activation(false)
            .with_filter(Targets::new().with_target("sinfonia", own_spans))
    });

    let first =
        tracing_subscriber::registry().with(logs::layer(verbosity)).with(spans).with(afresh::Afresh).try_init().is_ok();
    if first && enabled {
        opentelemetry::global::set_tracer_provider(tracer.clone());
        opentelemetry::global::set_meter_provider(meter.clone());
    }
    let exporting = exported(traces) | exported(metrics);
    Telemetry { tracer, meter, exporting }
}

fn exported(signal: export::Exporting) -> bool {
    signal.unwrap_or_else(|error| {
        tracing::warn!(%error, "not exported: check the OTEL_EXPORTER_OTLP_* variables");
        false
    })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if !self.exporting {
            return;
        }
        // In a thread of its own, because the SDK's own time limits for this are longer.
        let (tracer, meter) = (self.tracer.clone(), self.meter.clone());
        let (done, finished) = mpsc::channel();
        let started = std::thread::Builder::new().name("telemetry-flush".into()).spawn(move || {
            let result = tracer.shutdown().and(meter.shutdown());
            // The receiver is gone once the time limit has passed.
            let _ = done.send(result);
        });
        if started.is_ok() && !matches!(finished.recv_timeout(FLUSH_LIMIT), Ok(Ok(()))) {
            tracing::debug!("the collector did not take the last spans and metrics in time");
        }
    }
}
