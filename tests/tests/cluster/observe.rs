//! What a cluster's cloudlet and its gateway export is what `docs/telemetry.md` says, and every query of dashboards and
//! rules has an answer from a Prometheus that scrapes all three servers.

use std::net::SocketAddr;

use sinfonia_tests::cluster::{Cluster, ask, url};
use sinfonia_tests::queries::{choices, queries};
use sinfonia_tests::{Collector, Documented, Prometheus, eventually, free_port};

const FETCH: [&str; 7] = ["timeout", "10", "busybox", "wget", "-q", "-O-", "http://helloworld/"];

/// The programs of this test, as the document calls them.
const PROGRAMS: [&str; 2] = ["tier2", "tier2 on Kubernetes"];

/// Spans of what this test has not: charts that are somewhere else, and releases that end before their namespace.
const ELSEWHERE: [&str; 4] = ["fetch recipe", "fetch chart", "helm pull", "helm uninstall"];

#[test]
fn everything_is_documented_and_every_query_has_an_answer() {
    let cluster = Cluster::new();
    let collector = Collector::start();
    let world = &cluster.world;
    world.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    world.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    world.set("OTEL_METRIC_EXPORT_INTERVAL", "500");
    let page = cluster.add_chart("helloworld", "");
    let broken = cluster.add_chart("template-error", "");
    let tier1 = world.tier1(&[]);
    let port = free_port().to_string();
    let (tier1_url, own) = (url(&tier1), format!("http://127.0.0.1:{port}"));
    let tier2 = cluster.tier2(&["--port", &port, "--tier1-url", &tier1_url, "--tier2-url", &own]);
    let gateway = gateway(&cluster);
    let jobs =
        [("sinfonia-tier1", tier1.listens()), ("sinfonia-tier2", tier2.listens()), ("sinfonia-gateway", gateway)];
    let prometheus = Prometheus::start(world, &jobs);
    eventually("all three are scraped", || prometheus.query("up == 1").len() == 3);
    eventually("tier1 knows the cloudlet", || prometheus.query("sinfonia_tier1_cloudlets") == [1.0]);

    // A rate is seen from the second time on.
    for round in 1..=2 {
        let who = format!("client-{round}");
        let client = cluster.tier3_in_the_end(&who, &[&[tier1_url.as_str(), &page][..], &FETCH].concat());
        assert_eq!(client.code(), 0, "{}\n{}", client.errors, tier2.log());
        assert_ne!(cluster.tier3(&who, &[&tier1_url, &broken, "true"]).finish().code(), 0);
        eventually("both are counted", || {
            ["sinfonia_deployment_ready_duration_seconds_count", "sum(sinfonia_deployment_failures_total)"]
                .iter()
                .all(|query| prometheus.query(query).iter().any(|count| *count >= f64::from(round)))
        });
        for (method, draining) in [("POST", true), ("DELETE", false)] {
            assert_eq!(ask(method, &format!("{own}/api/v1/drain"), &[]).0 / 100, 2);
            eventually("tier1 knows that", || {
                let (_, known) = ask("GET", &format!("{tier1_url}/api/v1/cloudlets/"), &[]);
                known[0]["draining"].as_bool().unwrap_or_default() == draining
            });
        }
    }

    let asked = queries();
    let mut unanswered = Vec::new();
    eventually("every query has an answer", || {
        unanswered = asked.iter().filter(|query| prometheus.query(&query.query).is_empty()).collect();
        if unanswered.len() < 5 {
            eprintln!("without an answer: {unanswered:#?}");
        }
        unanswered.is_empty()
    });
    for choice in choices() {
        assert!(!prometheus.label_values(&choice.selector, &choice.label).is_empty(), "{choice:?}");
    }

    let documented = Documented::read();
    let unseen = || -> Vec<String> {
        let unseen = documented.unseen(&collector, &PROGRAMS);
        let is_here = |complaint: &String| !ELSEWHERE.iter().any(|name| complaint.contains(&format!("{name:?}")));
        unseen.into_iter().filter(is_here).collect()
    };
    // What is said of failed reports is shown where there are no clusters.
    let tolerated = |complaint: &String| complaint.contains("name: \"report\"");
    eventually("everything is exported", || {
        let mut unseen = unseen();
        unseen.retain(|complaint| !tolerated(complaint));
        if unseen.len() < 4 {
            eprintln!("not yet: {unseen:#?}");
        }
        unseen.is_empty()
    });
    let undocumented = documented.undocumented(&collector);
    assert!(undocumented.is_empty(), "{undocumented:#?}");
    for (program, address) in [("tier1", jobs[0].1), ("tier2", jobs[1].1), ("gateway", gateway)] {
        let text = ureq::get(format!("http://{address}/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
        let undocumented = documented.undocumented_in_text(program, &text);
        assert!(undocumented.is_empty(), "{program}: {undocumented:#?}");
    }
    assert_installing_continues_the_request(&collector);
}

/// The operator works in the trace of the request that it works for.
fn assert_installing_continues_the_request(collector: &Collector) {
    let spans = collector.spans();
    let of = |service: &str, name: &str| {
        let found = spans.iter().filter(|(of, span)| of == service && span.name.starts_with(name));
        found.map(|(_, span)| span.clone()).collect::<Vec<_>>()
    };
    let requests = of("sinfonia-tier2", "POST /api/v1/deploy/");
    let installs = of("sinfonia-tier2", "install");
    assert!(installs.len() >= 4, "{installs:#?}");
    for install in &installs {
        let request = requests.iter().find(|request| request.span_id == install.parent_span_id);
        assert!(request.is_some_and(|request| request.trace_id == install.trace_id), "{install:#?}");
    }
    for step in of("sinfonia-tier2", "helm install") {
        assert!(installs.iter().any(|install| install.span_id == step.parent_span_id), "{step:#?}");
    }
}

/// Where the gateway shows its metrics.
fn gateway(cluster: &Cluster) -> SocketAddr {
    let nodes = cluster.list("nodes", &[]);
    let mut urls = nodes.iter().filter_map(|node| node["metadata"]["annotations"]["findcloudlet.org/gateway"].as_str());
    urls.next().unwrap().trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
}
