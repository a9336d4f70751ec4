//! How long a client waits for a backend, beside the same manifests applied by hand.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use sinfonia_tests::cluster::{Cluster, output_of};
use sinfonia_tests::eventually;

use super::Scene;
use crate::figure::{interleaved, median, show};

pub(crate) const FIGURES: [&str; 3] = ["tier2_ready_vs_apply", "tier2_ready_ms", "tier2_apply_ms"];

const ROUNDS: usize = 9;
const NAMESPACE: &str = "bench-apply";

/// One deployment at a time, in turn with `kubectl apply` and `kubectl rollout status` in a namespace that is there.
pub(crate) fn run() {
    let scene = Scene::new("helloworld", &[]);
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/helloworld");
    let manifests = output_of(Command::new("helm").args(["template", "bare"]).arg(chart));
    let first = || by_tier2(&scene);
    let second = || by_hand(&scene.cluster, &manifests);
    // Whatever is done for the first time.
    let _ = (first(), second());
    let (ours, bare) = interleaved(ROUNDS, first, second);
    eprintln!("bench: s until it is ready, by tier2 {ours:.2?}, by hand {bare:.2?}");
    let (ours, bare) = (median(ours), median(bare));
    show(FIGURES[0], ours / bare, "ratio");
    show(FIGURES[1], ours * 1e3, "ms");
    show(FIGURES[2], bare * 1e3, "ms");
}

/// Seconds.
fn by_tier2(scene: &Scene) -> f64 {
    let time = scene.deploy(1);
    scene.release(1);
    eventually("the deployment is gone", || scene.cluster.left() == (0, 0, 0));
    time
}

/// Seconds.
fn by_hand(cluster: &Cluster, manifests: &str) -> f64 {
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    let file = cluster.world.path("bare.yaml");
    std::fs::write(&file, manifests).unwrap();
    let begin = Instant::now();
    cluster.kubectl(&["-n", NAMESPACE, "apply", "-f", file.to_str().unwrap()]);
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", "--timeout=280s", "deployment/helloworld"]);
    let time = begin.elapsed();
    cluster.kubectl(&["delete", "namespace", NAMESPACE]);
    time.as_secs_f64()
}
