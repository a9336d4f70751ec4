//! What operators see: one trace through all three programs, metrics, and whether a server is ready.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use sinfonia_tests::{World, eventually};

use crate::setup::{FETCH, Setup, ask, deployment_path, get, url};

/// Takes spans by OTLP over HTTP. Its thread ends with the test program.
struct Collector {
    url: String,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let taken = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let taken = taken.clone();
                thread::spawn(move || serve(stream, &taken));
            }
        });
        Self { url, requests }
    }

    /// All spans so far, with the names of their services.
    fn spans(&self) -> Vec<(String, Span)> {
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
fn serve(stream: TcpStream, taken: &Mutex<Vec<ExportTraceServiceRequest>>) {
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

#[test]
fn one_trace_leads_from_the_client_to_the_cloudlet() {
    let collector = Collector::start();
    let world = World::new();
    world.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    world.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    let application = world.add_page("seen").to_string();
    let setup = Setup::with(world, &[]);
    let client = setup.client(&[], &application, &FETCH).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);

    // From the cloudlet back to the client; what the names begin with.
    const PATH: [(&str, &str, i32); 4] = [
        ("sinfonia-tier2", "POST /api/v1/deploy/{uuid}/{key", 2),
        ("sinfonia-tier1", "POST", 3),
        ("sinfonia-tier1", "POST /api/v1/deploy/{uuid}/{key", 2),
        ("sinfonia-tier3", "deploy", 3),
    ];
    let mut spans = Vec::new();
    eventually("all spans are exported", || {
        spans = collector.spans();
        PATH.iter().all(|(service, name, kind)| {
            spans.iter().any(|(of, span)| of == service && span.name.starts_with(name) && span.kind == *kind)
        })
    });
    let by_id: BTreeMap<_, _> = spans.iter().map(|(service, span)| (span.span_id.clone(), (service, span))).collect();
    let (_, last) = spans.iter().find(|(of, span)| of == PATH[0].0 && span.name.starts_with(PATH[0].1)).unwrap();
    let mut way = vec![(PATH[0].0, last)];
    while let Some((service, parent)) = by_id.get(&way[way.len() - 1].1.parent_span_id) {
        assert_eq!(parent.trace_id, last.trace_id);
        way.push((service, parent));
    }
    let mut on_the_way = way.iter();
    for (of, name, kind) in PATH {
        let is_it =
            |(service, span): &(&str, &Span)| *service == of && span.name.starts_with(name) && span.kind == kind;
        assert!(on_the_way.any(is_it), "{name} of {of} is not on the way {way:#?}");
    }

    let path = deployment_path(&setup.world, &application);
    let key: sinfonia_wire::PublicKey = path.rsplit('/').next().unwrap().parse().unwrap();
    let secrets = fs_words(&setup.world, &application);
    let everything = format!("{spans:?}{}{}", get(&metrics_url(&setup.tier1)), get(&metrics_url(&setup.tier2)));
    for key in [key.url_safe(), key.to_string()].into_iter().chain(secrets) {
        assert!(!everything.contains(&key), "{key} is in spans or metrics");
    }
}

/// The keys as the client keeps them.
fn fs_words(world: &World, application: &str) -> Vec<String> {
    let file = std::fs::read_to_string(world.path("home/.cache/sinfonia").join(application)).unwrap();
    file.lines().map(|line| line.split_once(": ").unwrap().1.trim_matches('=').to_owned()).collect()
}

fn metrics_url(server: &sinfonia_tests::Running) -> String {
    url(server) + "/metrics"
}

#[test]
fn servers_tell_how_they_are() {
    let world = World::new();
    let application = world.add_page("seen").to_string();
    let setup = Setup::with(world, &[]);
    assert_eq!(setup.client(&[], &application, &FETCH).finish().code(), 0);
    for server in [&setup.tier1, &setup.tier2] {
        for path in ["/", "/healthz", "/readyz"] {
            assert_eq!(ask("GET", &(url(server) + path)).0, 200, "{path}");
        }
        let metrics = get(&metrics_url(server));
        let deploys = metrics.lines().find(|line| {
            let words = ["http_server_request_duration_seconds_count", "http_route=\"/api/v1/deploy/{uuid}/{key"];
            words.iter().all(|word| line.contains(word)) && line.contains("http_request_method=\"POST\"")
        });
        assert!(deploys.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
        assert!(!metrics.contains(&application), "{metrics}");
    }
}
