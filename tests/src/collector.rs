//! The receiving end of telemetry (OTLP over HTTP).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// Takes spans and metrics by OTLP over HTTP. Its thread ends with the test program.
pub struct Collector {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub url: String,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    raw: Vec<u8>,
    spans: Vec<(String, Span)>,
    metrics: BTreeMap<(String, String), SeenMetric>,
}

/// A metric as it was exported, all its points together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenMetric {
    /// `counter`, `updowncounter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its unit.
    pub unit: String,
    /// The attributes of its points.
    pub attributes: BTreeSet<String>,
}

impl Collector {
    /// Listens on loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::<Mutex<Taken>>::default();
        let shared = taken.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let taken = shared.clone();
                thread::spawn(move || serve(stream, &taken));
            }
        });
        Self { url, taken }
    }

    /// The bodies of all requests so far, metrics included.
    pub fn raw(&self) -> Vec<u8> {
        self.taken.lock().unwrap().raw.clone()
    }

    /// All spans so far, with the names of their services.
    pub fn spans(&self) -> Vec<(String, Span)> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// All metrics so far, by the names of their services and their own.
    pub fn metrics(&self) -> BTreeMap<(String, String), SeenMetric> {
        self.taken.lock().unwrap().metrics.clone()
    }
}

impl Taken {
    fn take_spans(&mut self, request: ExportTraceServiceRequest) {
        for resource in request.resource_spans {
            let service = service(resource.resource.as_ref());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|span| (service.clone(), span)));
        }
    }

    fn take_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for resource in request.resource_metrics {
            let service = service(resource.resource.as_ref());
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let (kind, attributes) = points(&metric);
                let seen = self.metrics.entry((service.clone(), metric.name)).or_default();
                seen.kind = kind;
                seen.unit = metric.unit;
                seen.attributes.extend(attributes);
            }
        }
    }
}

/// How many spans a request to `/v1/traces` holds.
pub fn count_spans(body: &[u8]) -> usize {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

/// The kind of a metric, and all attributes that its points have.
fn points(metric: &Metric) -> (&'static str, BTreeSet<String>) {
    fn names<'a>(lists: impl Iterator<Item = &'a Vec<KeyValue>>) -> BTreeSet<String> {
        lists.flatten().map(|attribute| attribute.key.clone()).collect()
    }
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => ("gauge", names(gauge.data_points.iter().map(|point| &point.attributes))),
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality, AggregationTemporality::Cumulative as i32);
            let kind = if sum.is_monotonic { "counter" } else { "updowncounter" };
            (kind, names(sum.data_points.iter().map(|point| &point.attributes)))
        }
        Data::Histogram(histogram) => ("histogram", names(histogram.data_points.iter().map(|point| &point.attributes))),
        other => panic!("a kind of metric that is not used: {other:?}"),
    }
}

/// Answers requests on one connection until the other side closes it.
fn serve(stream: TcpStream, taken: &Mutex<Taken>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
        let mut body = vec![0; length.trim().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        {
            let mut taken = taken.lock().unwrap();
            taken.raw.extend_from_slice(&body);
            if head.starts_with("post /v1/traces ") {
                taken.take_spans(ExportTraceServiceRequest::decode(&body[..]).unwrap());
            } else if head.starts_with("post /v1/metrics ") {
                taken.take_metrics(ExportMetricsServiceRequest::decode(&body[..]).unwrap());
            }
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = &resource.unwrap().attributes;
    text(attributes.iter().find(|attribute| attribute.key == "service.name").unwrap().value.as_ref().unwrap())
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}
