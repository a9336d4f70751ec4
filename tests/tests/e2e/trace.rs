//! What operators see: one trace through all three programs, metrics, and whether a server is ready.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::Span;
use sinfonia_tests::{Collector, World, eventually};

use crate::setup::{FETCH, Setup, ask, deployment_path, get, url};

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
