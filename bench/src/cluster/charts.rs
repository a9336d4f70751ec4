//! How long the charts take until they serve, with images that the nodes have, and what the pods occupy then.

use std::time::{Duration, Instant};

use serde_json::Value;
use sinfonia_tests::cluster::NAMESPACE;
use sinfonia_tests::eventually;
use sinfonia_tests::releases::Releases;

use crate::figure::{median, show};

pub(crate) const FIGURES: [&str; 7] = [
    "helm_install_ready_s",
    "helm_install_ready_s_tier1",
    "helm_install_ready_s_tier2",
    "pod_mb_tier1",
    "pod_mb_tier2",
    "pod_mb_gateway",
    "pod_mb_postgres",
];

const ROUNDS: usize = 5;
/// The kubelet's own figures are older than a pod's first seconds.
const REST: Duration = Duration::from_secs(20);

pub(crate) fn run() {
    let releases = Releases::new();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        times.push(install(&releases));
        if round + 1 < ROUNDS {
            releases.remove();
        }
    }
    eprintln!("bench: s until tier1, tier2 and both with a report are ready {times:.1?}");
    let [tier1, tier2, both] = [0, 1, 2].map(|index| median(times.iter().map(|time| time[index])));
    show(FIGURES[0], both, "s");
    show(FIGURES[1], tier1, "s");
    show(FIGURES[2], tier2, "s");
    let database = ["database.bundled.enabled=true", "database.bundled.persistence.enabled=false"];
    releases.release("sinfonia-tier1", "charts/sinfonia-tier1", &[&["service.type=NodePort"][..], &database].concat());
    std::thread::sleep(REST);
    let names = ["sinfonia-tier1", "sinfonia-tier2", "sinfonia-gateway", "sinfonia-tier1-postgres"];
    for (figure, name) in FIGURES[3..].iter().zip(names) {
        show(figure, memory(&releases, name), "MB");
    }
}

/// Seconds until tier1, tier2, and all of it with a cloudlet that reports.
fn install(releases: &Releases) -> [f64; 3] {
    let begin = Instant::now();
    releases.release("sinfonia-tier1", "charts/sinfonia-tier1", &["service.type=NodePort"]);
    let tier1 = begin.elapsed();
    let secret = "tier1.existingSecret=sinfonia-tier1-cloudlet";
    let values = ["tier1.url=http://sinfonia-tier1.sinfonia.svc", secret, "gateway.enabled=true"];
    releases.release("sinfonia-tier2", "charts/sinfonia-tier2", &values);
    let tier2 = begin.elapsed().saturating_sub(tier1);
    releases.await_report();
    [tier1.as_secs_f64(), tier2.as_secs_f64(), begin.elapsed().as_secs_f64()]
}

/// What the pods with this name occupy, as the kubelet counts it for evictions: MB for each.
fn memory(releases: &Releases, name: &str) -> f64 {
    let mut found = Vec::new();
    eventually(&format!("the kubelet knows {name}"), || {
        found = releases
            .cluster
            .list("nodes", &[])
            .iter()
            .flat_map(|node| {
                let node = node["metadata"]["name"].as_str().unwrap();
                let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
                let summary: Value = serde_json::from_str(&releases.cluster.kubectl(&["get", "--raw", &path])).unwrap();
                summary["pods"].as_array().cloned().unwrap_or_default()
            })
            .filter(|pod| pod["podRef"]["namespace"] == NAMESPACE && is_of(pod, name))
            .filter_map(|pod| pod["memory"]["workingSetBytes"].as_f64())
            .collect();
        !found.is_empty()
    });
    median(found) / 1e6
}

/// Whether a pod's name is that of its owner and what makes it unique.
fn is_of(pod: &Value, name: &str) -> bool {
    let rest = pod["podRef"]["name"].as_str().and_then(|pod| pod.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with('-') && !rest.starts_with("-postgres"))
}
