//! A hundred deployments at once, beside a hundred namespaces with the same contents made by kubectl.

use std::process::Command;
use std::thread;
use std::time::Instant;

use procfs::process::Process;
use serde_json::json;
use sinfonia_tests::cluster::output_of;

use super::{Scene, requests::Requests};
use crate::figure::show;
use crate::memory::memory;

pub(crate) const FIGURES: [&str; 5] = [
    "tier2_burst_100_s",
    "tier2_burst_100_apply_s",
    "tier2_requests_per_deployment",
    "tier2_helm_requests_per_deployment",
    "tier2_burst_100_rss_mb",
];

const MANY: u8 = 100;

/// A chart without pods, since a machine with two cores starts a hundred of them in minutes, whoever asks for them.
pub(crate) fn run() {
    let scene = Scene::new("nothing", &[]);
    // Whatever is done for the first time.
    scene.deploy(0);
    scene.release(0);
    let requests = Requests::of(&scene.cluster);
    let before = requests.counts();
    let ours = all_at_once(|key| {
        scene.deploy(key);
    });
    let after = requests.counts();
    let process = Process::new(scene.tier2.pid().try_into().unwrap()).unwrap();
    let resident = memory(&process, "Rss") / 1e6;
    scene.cluster.remove_deployments();
    let bare = by_hand(&scene);
    show(FIGURES[0], ours, "s");
    show(FIGURES[1], bare, "s");
    show(FIGURES[2], (after.tier2 - before.tier2) / f64::from(MANY), "1/deployment");
    show(FIGURES[3], (after.others - before.others) / f64::from(MANY), "1/deployment");
    show(FIGURES[4], resident, "MB");
}

/// Seconds until the last one has ended.
fn all_at_once(work: impl Fn(u8) + Sync) -> f64 {
    let begin = Instant::now();
    thread::scope(|scope| {
        for number in 1..=MANY {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
    begin.elapsed().as_secs_f64()
}

fn by_hand(scene: &Scene) -> f64 {
    let name = |number: u8| format!("bench-apply-{number}");
    let file = |number: u8| scene.cluster.world.path(&format!("bare-{number}.json"));
    for number in 1..=MANY {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name(number) } });
        let metadata = json!({ "name": "nothing", "namespace": name(number) });
        let content = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "a": "b" } });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [namespace, content] });
        std::fs::write(file(number), list.to_string()).unwrap();
    }
    let time = all_at_once(|number| {
        output_of(Command::new("kubectl").arg("apply").arg("-f").arg(file(number)));
    });
    let names: Vec<String> = (1..=MANY).map(name).collect();
    let names = names.iter().map(String::as_str);
    scene.cluster.kubectl(&["delete", "namespace", "--wait=false"].into_iter().chain(names).collect::<Vec<_>>());
    time
}
