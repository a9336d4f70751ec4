//! A cluster with thousands of deployments: what a renewal costs, beside one bare patch of such an object, and what
//! tier2 takes while nothing happens.
//!
//! The many are objects without a name of a deployment, as if their namespaces were not made yet, so that the cluster
//! does not have to hold thousands of namespaces: tier2 watches, keeps and judges them like the others.

use std::thread;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ApiResource, DeleteParams, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use procfs::process::Process;
use serde_json::json;
use sinfonia_wire::PublicKey;
use tokio::runtime::Runtime;

use super::{Scene, requests::Requests};
use crate::cpu;
use crate::figure::{interleaved, median, show};
use crate::memory::memory;

pub(crate) const FIGURES: [&str; 6] = [
    "tier2_renew_vs_patch",
    "tier2_renew_ms",
    "tier2_patch_ms",
    "tier2_idle_5000_cpu",
    "tier2_idle_5000_requests_per_s",
    "tier2_5000_rss_mb",
];

const MANY: u16 = 5_000;
const AT_ONCE: usize = 16;
const ROUNDS: usize = 101;
/// So long that nothing ends meanwhile, seconds.
const LEASE: &str = "86400";
/// How long removing the many may take.
const CLEANING: Duration = Duration::from_secs(300);
/// Two looks at all leases fit in, at the default interval.
const IDLE: Duration = Duration::from_secs(120);

pub(crate) fn run() {
    let scene = Scene::new("nothing", &["--lease", LEASE, "--max-deployments", "6000"]);
    let many = Many::new(&scene.application);
    scene.deploy(1);
    let process = Process::new(scene.tier2.pid().try_into().unwrap()).unwrap();
    renewals(&scene, &many);
    let requests = Requests::of(&scene.cluster);
    let before = (requests.counts(), cpu::seconds(&process), Instant::now());
    thread::sleep(IDLE);
    let (cpu, time, counts) = (cpu::seconds(&process) - before.1, before.2.elapsed(), requests.counts());
    show(FIGURES[3], cpu / time.as_secs_f64(), "share");
    show(FIGURES[4], (counts.tier2 - before.0.tier2) / time.as_secs_f64(), "1/s");
    show(FIGURES[5], memory(&process, "Rss") / 1e6, "MB");
}

fn renewals(scene: &Scene, many: &Many) {
    let first = || scene.deploy(1);
    let second = || many.patch_one();
    let _ = (first(), second());
    let (ours, bare) = interleaved(ROUNDS, first, second);
    let (ours, bare) = (median(ours), median(bare));
    show(FIGURES[0], ours / bare, "ratio");
    show(FIGURES[1], ours * 1e3, "ms");
    show(FIGURES[2], bare * 1e3, "ms");
}

/// The many objects, as long as this exists.
struct Many {
    runtime: Runtime,
    api: Api<DynamicObject>,
}

impl Many {
    fn new(application: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Fails only when there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = runtime.block_on(Client::try_default()).unwrap();
        let many = Self { runtime, api: Api::all_with(client, &kind()) };
        let begin = Instant::now();
        many.runtime.block_on(async {
            let made = stream::iter(0..MANY).map(|number| make(&many.api, application, number));
            made.buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(())).await;
        });
        eprintln!("bench: {MANY} objects made in {:.0?}", begin.elapsed());
        many
    }

    /// Seconds.
    fn patch_one(&self) -> f64 {
        let patch = Patch::Merge(json!({ "spec": { "requestedAt": Timestamp::now().to_string() } }));
        let begin = Instant::now();
        let patched = self.runtime.block_on(self.api.patch(&name(0), &PatchParams::default(), &patch));
        let time = begin.elapsed();
        patched.unwrap();
        time.as_secs_f64()
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        let (background, all) = (DeleteParams::background(), ListParams::default());
        if let Err(error) = self.runtime.block_on(self.api.delete_collection(&background, &all)) {
            eprintln!("bench: the many objects are still there: {error}");
            return;
        }
        // Whoever measures next finds nothing of them.
        let begin = Instant::now();
        let left = || self.runtime.block_on(self.api.list_metadata(&all.clone().limit(1)));
        while begin.elapsed() < CLEANING && left().is_ok_and(|left| !left.items.is_empty()) {
            thread::sleep(Duration::from_secs(1));
        }
    }
}

fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("findcloudlet.org", "v1alpha1", "CloudletDeployment"))
}

fn name(number: u16) -> String {
    format!("d-bench-{number}")
}

/// Makes an object that needs nothing done.
async fn make(api: &Api<DynamicObject>, application: &str, number: u16) {
    let mut key = [9; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    let now = Timestamp::now();
    let spec = json!({ "application": application, "key": PublicKey::from(key), "requestedAt": now.to_string() });
    let object = DynamicObject::new(&name(number), &kind()).data(json!({ "spec": spec }));
    api.create(&PostParams::default(), &object).await.unwrap();
    let end = now + SignedDuration::from_secs(LEASE.parse().unwrap());
    let status = json!({
        "phase": "Deployed",
        "createdAt": now.to_string(),
        "observedRequest": now.to_string(),
        "expiresAt": end.to_string(),
    });
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(&name(number), &PatchParams::default(), &patch).await.unwrap();
}
