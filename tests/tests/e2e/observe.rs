//! A real Jaeger has the whole trace of a run, and every query of dashboards and rules has an answer from a real
//! Prometheus. What only a cluster has is asked in the cluster's tests.

use std::collections::BTreeSet;

use sinfonia_tests::queries::{choices, queries, searches};
use sinfonia_tests::{Documented, Jaeger, JaegerSpan, Prometheus, Trace, World, eventually};

use crate::setup::{FETCH, Setup, ask};

/// The spans of a run, each below the one that it is a child of.
const TREE: &str = "\
sinfonia-tier3 sinfonia-tier3
  sinfonia-tier3 deploy
    sinfonia-tier1 POST /api/v1/deploy/{uuid}/{key}
      sinfonia-tier1 POST
        sinfonia-tier2 POST /api/v1/deploy/{uuid}/{key}
          sinfonia-tier2 make or renew
            sinfonia-tier2 install
              sinfonia-tier2 configure network
              sinfonia-tier2 make namespace
              sinfonia-tier2 start command
              sinfonia-tier2 wait for backend
  sinfonia-tier3 handshake
  sinfonia-tier3 run
";

#[test]
fn jaeger_has_one_trace_through_three_services() {
    let world = World::new();
    let jaeger = Jaeger::start(&world);
    let setup = traced(world, &jaeger);
    let application = setup.world.add_page("seen").to_string();
    let client = setup.client(&[], &application, &FETCH).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);

    let mut seen = Vec::new();
    eventually("the trace is there", || {
        seen = jaeger.traces("sinfonia-tier3", "sinfonia-tier3");
        seen.iter().any(|trace| trace.len() >= TREE.lines().count())
    });
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let trace = &seen[0];
    assert_eq!(tree(trace, None, 0), TREE);
    let root = trace.values().find(|span| span.parent.is_none()).unwrap();
    assert_eq!(root.tags["sinfonia.application"], application);
    for span in trace.values().filter(|span| span.name.starts_with("POST ")) {
        assert_eq!((&*span.tags["span.kind"], &*span.tags["http.response.status_code"]), ("server", "200"));
    }
}

#[test]
fn every_query_of_dashboards_and_rules_has_an_answer() {
    let world = World::new();
    let jaeger = Jaeger::start(&world);
    let setup = traced(world, &jaeger);
    let jobs = [("sinfonia-tier1", setup.tier1.listens()), ("sinfonia-tier2", setup.tier2.listens())];
    let prometheus = Prometheus::start(&setup.world, &jobs);
    eventually("both are scraped", || prometheus.query("up == 1").len() == 2);

    let page = setup.world.add_page("seen").to_string();
    let broken = setup.world.add_script("exit 3").to_string();
    // A rate is seen from the second time on.
    for round in 1..=2 {
        let user = format!("user-{round}");
        assert_eq!(setup.client_of(&user, &["--release"], &page, &FETCH).finish().code(), 0);
        assert_ne!(setup.client_of(&user, &[], &broken, &FETCH).finish().code(), 0);
        eventually("both are counted", || {
            ["sinfonia_deployment_ready_duration_seconds_count", "sum(sinfonia_deployment_failures_total)"]
                .iter()
                .all(|query| prometheus.query(query).iter().any(|count| *count >= f64::from(round)))
        });
        // Whether it takes deployments is reported at once.
        for method in ["POST", "DELETE"] {
            let (status, _) = ask(method, &format!("http://{}/api/v1/drain", setup.tier2.listens()));
            assert!((200..300).contains(&status), "{status}");
        }
    }

    let elsewhere = of_clusters();
    let here = |text: &str| !elsewhere.iter().any(|name| text.contains(name));
    let mut asked = queries();
    asked.retain(|query| here(&query.query));
    assert!(asked.len() > 45, "most queries are about what is here: {}", asked.len());
    let mut unanswered = Vec::new();
    eventually("every query has an answer", || {
        unanswered = asked.iter().filter(|query| prometheus.query(&query.query).is_empty()).collect();
        if unanswered.len() < 5 {
            eprintln!("without an answer: {unanswered:#?}");
        }
        unanswered.is_empty()
    });
    for choice in choices().into_iter().filter(|choice| here(&choice.selector)) {
        assert!(!prometheus.label_values(&choice.selector, &choice.label).is_empty(), "{choice:?}");
    }
    for search in searches() {
        eventually(&format!("{search:?} finds traces"), || {
            !jaeger.traces(&search.service, &search.operation).is_empty()
        });
    }
}

/// Tiers whose spans go to Jaeger.
fn traced(world: World, jaeger: &Jaeger) -> Setup {
    world.set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("{}/v1/traces", jaeger.collector));
    world.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    Setup::with(world, &[])
}

/// The names of metrics that only clusters have.
fn of_clusters() -> BTreeSet<String> {
    let documented = Documented::read();
    let is_of_clusters = |of: &String| of == "gateway" || of.ends_with(" on Kubernetes");
    let metrics = documented.metrics.into_iter().filter(|row| row.of.iter().all(is_of_clusters));
    metrics.map(|row| row.prometheus).chain(documented.plain.into_iter().map(|row| row.name)).collect()
}

/// The spans below one, or all, a line each, those of one parent in the order of their lines.
fn tree(trace: &Trace, parent: Option<&str>, depth: usize) -> String {
    // A parent that is not there would hide what is below it.
    let is_below = |span: &JaegerSpan| span.parent.as_deref().filter(|id| trace.contains_key(*id)) == parent;
    let mut branches: Vec<String> = trace
        .iter()
        .filter(|(_, span)| is_below(span))
        .map(|(id, span)| {
            let line = format!("{:indent$}{} {}\n", "", span.service, span.name, indent = 2 * depth);
            line + &tree(trace, Some(id), depth + 1)
        })
        .collect();
    branches.sort();
    branches.concat()
}
