//! A Jaeger that keeps traces in memory (`scripts/setup.sh test` builds it).

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::process::{Running, eventually};
use crate::world::{World, free_port, program};

/// It ends when it is dropped.
pub struct Jaeger {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub collector: String,
    query: String,
    _running: Running,
}

/// A span as Jaeger gives it back.
#[derive(Debug, Clone)]
pub struct JaegerSpan {
    /// Its service.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The id of the span it is a child of.
    pub parent: Option<String>,
    /// Its attributes.
    pub tags: BTreeMap<String, String>,
}

/// A whole trace, by the ids of its spans.
pub type Trace = BTreeMap<String, JaegerSpan>;

impl Jaeger {
    /// Starts it on loopback. It exports nothing itself.
    pub fn start(world: &World) -> Self {
        let (collector, query) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let mut command = Command::new(program("jaeger"));
        command.arg(format!("--collector.otlp.http.host-port={collector}"));
        command.arg(format!("--query.http-server.host-port={query}"));
        for unused in [
            "admin.http.host-port",
            "collector.grpc-server.host-port",
            "collector.http-server.host-port",
            "collector.otlp.grpc.host-port",
            "query.grpc-server.host-port",
            "http-server.host-port",
            "processor.jaeger-binary.server-host-port",
            "processor.jaeger-compact.server-host-port",
            "processor.zipkin-compact.server-host-port",
        ] {
            command.arg(format!("--{unused}=127.0.0.1:0"));
        }
        command.env("OTEL_TRACES_SAMPLER", "always_off");
        let running = world.start(command);
        let jaeger =
            Self { collector: format!("http://{collector}"), query: format!("http://{query}/api"), _running: running };
        eventually("Jaeger answers", || {
            std::net::TcpStream::connect(&collector).is_ok()
                && ureq::get(format!("{}/services", jaeger.query)).call().is_ok()
        });
        jaeger
    }

    /// The newest traces with a span of this service and this name.
    pub fn traces(&self, service: &str, operation: &str) -> Vec<Trace> {
        let mut answer = ureq::get(format!("{}/traces", self.query))
            .query_pairs([("service", service), ("operation", operation), ("limit", "20"), ("lookback", "1h")])
            .call()
            .unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        answer["data"].as_array().into_iter().flatten().map(trace).collect()
    }
}

fn trace(trace: &Value) -> Trace {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("not text: {value} in {trace}")).to_owned();
    let spans = trace["spans"].as_array().unwrap().iter().map(|span| {
        let references = span["references"].as_array().unwrap();
        let parent = references.iter().find(|reference| reference["refType"] == "CHILD_OF");
        let tags = span["tags"].as_array().unwrap().iter().map(|tag| {
            let value = &tag["value"];
            (text(&tag["key"]), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let read = JaegerSpan {
            service: text(&trace["processes"][text(&span["processID"])]["serviceName"]),
            name: text(&span["operationName"]),
            parent: parent.map(|parent| text(&parent["spanID"])),
            tags: tags.collect(),
        };
        (text(&span["spanID"]), read)
    });
    spans.collect()
}
