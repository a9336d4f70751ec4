//! Spans and metrics to a collector by OTLP over HTTP, if the environment names one.

use std::env;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;

/// Whether a signal is exported, or why it cannot be.
pub(crate) type Exporting = Result<bool, ExporterBuildError>;

/// What describes this program: the `OTEL_*` variables first, then its own name and version.
pub(crate) fn resource(service_name: &'static str) -> Resource {
    const SERVICE_NAME: &str = "service.name";
    let detected = Resource::builder().build();
    let named = detected.get(&SERVICE_NAME.into()).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { builder } else { builder.with_service_name(service_name) }.build()
}

/// Whether `OTEL_SDK_DISABLED` says that nothing is to be recorded.
pub(crate) fn disabled() -> bool {
    env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A provider whose spans have trace ids, and are exported if there is a collector.
pub(crate) fn tracer_provider(resource: Resource, enabled: bool) -> (SdkTracerProvider, Exporting) {
    let builder = SdkTracerProvider::builder().with_resource(resource);
    match (enabled && wanted("TRACES")).then(span_exporter).transpose() {
        Ok(Some(exporter)) => (builder.with_batch_exporter(exporter).build(), Ok(true)),
        Ok(None) => (builder.build(), Ok(false)),
        Err(error) => (builder.build(), Err(error)),
    }
}

/// A provider whose metrics are readable as Prometheus text, and exported if there is a collector.
pub(crate) fn meter_provider(resource: Resource, enabled: bool) -> (SdkMeterProvider, Exporting) {
    let mut builder = SdkMeterProvider::builder().with_resource(resource);
    if !enabled {
        return (builder.build(), Ok(false));
    }
    let prometheus = opentelemetry_prometheus::exporter()
        .with_registry(crate::metrics::registry())
        .scope_info_enabled(false)
        .build();
    // It fails only when it is registered already, by an earlier call of `init`.
    if let Ok(prometheus) = prometheus {
        builder = builder.with_reader(prometheus);
    }
    match wanted("METRICS").then(metric_exporter).transpose() {
        Ok(Some(exporter)) => {
            let reader = PeriodicReader::builder(exporter).build();
            (builder.with_reader(reader).build(), Ok(true))
        }
        Ok(None) => (builder.build(), Ok(false)),
        Err(error) => (builder.build(), Err(error)),
    }
}

fn span_exporter() -> Result<SpanExporter, ExporterBuildError> {
    SpanExporter::builder().with_http().with_http_client(Ureq::new("TRACES")).build()
}

fn metric_exporter() -> Result<MetricExporter, ExporterBuildError> {
    MetricExporter::builder().with_http().with_http_client(Ureq::new("METRICS")).build()
}

/// Whether the environment asks for the export of `signal` (`TRACES` or `METRICS`).
fn wanted(signal: &str) -> bool {
    let set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    let is = |name: &str, expected: &str| env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case(expected));
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")))
        && !is(&format!("OTEL_{signal}_EXPORTER"), "none")
}

/// OTLP's HTTP client. It blocks, which is right in the exporters' own threads.
#[derive(Debug)]
struct Ureq(ureq::Agent);

impl Ureq {
    fn new(signal: &str) -> Self {
        let milliseconds = [&format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT"]
            .into_iter()
            .find_map(|name| env::var(name).ok()?.parse().ok());
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(milliseconds.unwrap_or(10_000))))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for Ureq {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(Vec::from))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}
