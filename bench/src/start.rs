//! How long a person waits for the application, beside the reference client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::figure::{interleaved, median, show};
use crate::scene::Scene;

pub(crate) const FIGURES: [&str; 3] = ["tier3_start_speedup", "tier3_start_ms", "tier3_start_reference_ms"];

const ROUNDS: usize = 11;

/// Runs `true` through both clients, at the same tier1 and cloudlet, each with a deployment of its own that is there
/// already.
pub(crate) fn run() {
    let (ours, reference) = (sinfonia_tests::program("sinfonia-tier3"), reference_client());
    let scene = Scene::new();
    let mode = if nix::unistd::geteuid().is_root() { "root" } else { "an ordinary user without privileges" };
    eprintln!("bench: {ROUNDS} starts of each client, both as {mode}; reference: {}", reference.display());
    let first = || milliseconds(&scene, &ours, "ours");
    let second = || milliseconds(&scene, &reference, "reference");
    // The first one of each makes its deployment.
    let _ = (first(), second());
    let (ours, reference) = interleaved(ROUNDS, first, second);
    eprintln!("bench: ms, ours {ours:.0?}, reference {reference:.0?}");
    let (ours, reference) = (median(ours), median(reference));
    show(FIGURES[0], reference / ours, "ratio");
    show(FIGURES[1], ours, "ms");
    show(FIGURES[2], reference, "ms");
}

/// One start, with a key cache of this name: a key serves one tunnel at a time.
fn milliseconds(scene: &Scene, client: &Path, cache: &str) -> f64 {
    let mut command = Command::new(client);
    command.args([&scene.url, &scene.application.to_string(), "/bin/true"]);
    let mut command = scene.world.at_home(command);
    command.env("XDG_CACHE_HOME", scene.world.path(cache));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap_or_else(|error| panic!("{}: {error}", client.display()));
    let time = start.elapsed().as_secs_f64() * 1e3;
    assert!(status.success(), "{command:?}: {status}");
    time
}

/// Where `SINFONIA_REFERENCE_CLIENT` or scripts/setup.sh has it.
fn reference_client() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let path = variable("SINFONIA_REFERENCE_CLIENT").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache"))).unwrap_or_default();
        cache.join("sinfonia-dev/reference-client/bin/sinfonia-tier3")
    });
    assert!(path.exists(), "{} is missing: `make bench` installs the reference client", path.display());
    path
}
