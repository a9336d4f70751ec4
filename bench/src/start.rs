//! How long a person waits for the application, beside the reference client.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::figure::{interleaved, median, show};
use crate::scene::Scene;

pub(crate) const FIGURES: [&str; 3] = ["tier3_start_speedup", "tier3_start_ms", "tier3_start_reference_ms"];

const ROUNDS: usize = 11;
const LIMIT: Duration = Duration::from_secs(15);
const TRIES: usize = 5;

/// Runs `true` through both clients, at the same tier1 and cloudlet, each with a deployment of its own that is there
/// already.
pub(crate) fn run() {
    let (ours, reference) = (sinfonia_tests::program("sinfonia-tier3"), reference_client());
    let scene = Scene::new();
    let mode = if nix::unistd::geteuid().is_root() { "root" } else { "an ordinary user without privileges" };
    eprintln!("bench: {ROUNDS} starts of each client, both as {mode}; reference: {}", reference.display());
    let first = || milliseconds(&scene, &ours, "ours").unwrap();
    // The reference may look for the namespace before that is there, and then hangs.
    let second = || (0..TRIES).find_map(|_| milliseconds(&scene, &reference, "reference")).unwrap();
    // The first one of each makes its deployment.
    let _ = (first(), second());
    let (ours, reference) = interleaved(ROUNDS, first, second);
    eprintln!("bench: ms, ours {ours:.1?}, reference {reference:.0?}");
    let (ours, reference) = (median(ours), median(reference));
    show(FIGURES[0], reference / ours, "ratio");
    show(FIGURES[1], ours, "ms");
    show(FIGURES[2], reference, "ms");
}

/// One start, with a key cache of this name: a key serves one tunnel at a time. None if it does not end.
fn milliseconds(scene: &Scene, client: &Path, cache: &str) -> Option<f64> {
    let mut command = Command::new(client);
    command.args([&scene.url, &scene.application.to_string(), "/bin/true"]);
    let mut command = scene.world.at_home(command);
    command.env("XDG_CACHE_HOME", scene.world.path(cache));
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", client.display()));
    let group = Pid::from_raw(child.id().try_into().unwrap());
    let (sender, ended) = mpsc::channel();
    let waiting = thread::spawn(move || sender.send((child.wait().unwrap(), start.elapsed())));
    let Ok((status, time)) = ended.recv_timeout(LIMIT) else {
        eprintln!("bench: {} did not end", client.display());
        killpg(group, Signal::SIGKILL).unwrap();
        waiting.join().unwrap().unwrap();
        return None;
    };
    assert!(status.success(), "{command:?}: {status}");
    Some(time.as_secs_f64() * 1e3)
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
