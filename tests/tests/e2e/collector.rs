//! The receiving end of telemetry (OTLP over HTTP).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// Takes spans by OTLP over HTTP. Its thread ends with the test program.
pub(crate) struct Collector {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let raw = Arc::<Mutex<Vec<_>>>::default();
        let (taken, seen) = (requests.clone(), raw.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (taken, seen) = (taken.clone(), seen.clone());
                thread::spawn(move || serve(stream, &taken, &seen));
            }
        });
        Self { url, requests, raw }
    }

    /// The bodies of all requests so far, metrics included.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.raw.lock().unwrap().clone()
    }

    /// All spans so far, with the names of their services.
    pub(crate) fn spans(&self) -> Vec<(String, Span)> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let of_resource = |spans: &opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
            let attributes = &spans.resource.as_ref().unwrap().attributes;
            let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let service = text(service.value.as_ref().unwrap());
            let spans = spans.scope_spans.iter().flat_map(|scope| scope.spans.clone());
            spans.map(move |span| (service.clone(), span)).collect::<Vec<_>>()
        };
        resources.flat_map(of_resource).collect()
    }
}

/// Answers requests on one connection until the other side closes it.
fn serve(stream: TcpStream, taken: &Mutex<Vec<ExportTraceServiceRequest>>, seen: &Mutex<Vec<u8>>) {
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
        seen.lock().unwrap().extend_from_slice(&body);
        if head.starts_with("post /v1/traces ") {
            taken.lock().unwrap().push(ExportTraceServiceRequest::decode(&body[..]).unwrap());
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

fn text(value: &opentelemetry_proto::tonic::common::v1::AnyValue) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    match value.value.as_ref() {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}
