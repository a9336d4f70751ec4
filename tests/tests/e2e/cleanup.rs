//! What is left when things end, well or badly: nothing but the client's key.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sinfonia_tests::{Running, World, children, eventually, processes_in};

use crate::setup::{FETCH, Returning, Setup, deployments, world_with_identity};

/// Short, so that what the lease ends does so within the test; seconds that a slow machine may take between two packets.
const LEASE: [&str; 4] = ["--lease", "5", "--expiry-interval", "1"];

const STAY: [&str; 3] = ["sh", "-c", "echo up; exec busybox sleep 1000"];

/// What everybody sees of this machine and of the test's directory.
#[derive(Debug, PartialEq)]
struct Host {
    interfaces: Vec<String>,
    mounts: String,
    files: BTreeSet<PathBuf>,
}

impl Host {
    fn of(world: &World) -> Self {
        let devices = fs::read_to_string("/proc/net/dev").unwrap();
        let interfaces = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut files = BTreeSet::new();
        list(&world.path(""), &mut files);
        Self { interfaces, mounts, files }
    }

    /// This, with the key of an application.
    fn with_key_of(mut self, world: &World, application: &str) -> Self {
        let cache = Path::new("home/.cache/sinfonia").join(application);
        self.files
            .extend(cache.ancestors().filter(|path| path.parent().is_some()).map(|path| world.path("").join(path)));
        self
    }
}

/// All files but those of the cloudlet, which lives on.
fn list(directory: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "cloudlet") {
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), files);
        }
        files.insert(entry.path());
    }
}

/// The processes below one, as long as each has one child: of a namespace these are its helper, its init and the
/// command.
fn line_below(parent: u32) -> [u32; 3] {
    let mut above = parent;
    [(); 3].map(|()| {
        eventually("a process below", || children(above).len() == 1);
        above = children(above)[0];
        above
    })
}

fn network_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

fn kill_one(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

fn client_that_stays(setup: &Setup, options: &[&str], application: &str) -> Running {
    let client = setup.client(options, application, &STAY);
    eventually("the application runs", || client.output() == "up\n");
    client
}

fn nothing_is_deployed(setup: &Setup) {
    eventually("the lease ends the deployment", || setup.deployments() == 0);
    eventually("its processes end", || children(setup.tier2.pid()).is_empty());
}

#[test]
fn leaving_leaves_nothing() {
    for options in [&[][..], &["--release"]] {
        let (world, application) = world_with_identity();
        let setup = Setup::with(world, &LEASE);
        let before = Host::of(&setup.world);
        let client = setup.client(options, &application, &FETCH);
        let group = client.pid();
        let client = client.finish();
        assert_eq!(client.code(), 0, "{}", client.errors);
        if !options.is_empty() {
            assert_eq!(setup.deployments(), 0, "it was released before the client ended");
        }
        setup.world.wait_until_gone("the client", &[group]);
        assert_eq!(Host::of(&setup.world), before.with_key_of(&setup.world, &application));
        nothing_is_deployed(&setup);
    }
}

#[test]
fn killing_any_process_of_the_client_leaves_nothing() {
    // The client, its helper, the init and the application; how the client ends then.
    for (victim, code) in [(0, 137), (1, 71), (2, 71), (3, 137)] {
        let (world, application) = world_with_identity();
        let setup = Setup::with(world, &LEASE);
        let before = Host::of(&setup.world);
        let client = client_that_stays(&setup, &[], &application);
        let [helper, init, command] = line_below(client.pid());
        let line = [client.pid(), helper, init, command];
        let network = network_of(command);
        assert_ne!(network, network_of(std::process::id()));

        kill_one(line[victim]);
        let finished = client.finish();
        assert_eq!(finished.code(), code, "process {victim} was killed: {}", finished.errors);
        setup.world.wait_until_gone("the client", &[line[0]]);
        assert!(processes_in(&network).is_empty());
        assert_eq!(Host::of(&setup.world), before.with_key_of(&setup.world, &application));
        nothing_is_deployed(&setup);
    }
}

#[test]
fn killing_the_cloudlet_ends_its_backends() {
    let (world, application) = world_with_identity();
    let setup = Setup::with(world, &[]);
    let client = client_that_stays(&setup, &[], &application);
    let [_, _, backend] = line_below(setup.tier2.pid());
    let network = network_of(backend);
    assert_ne!(network, network_of(std::process::id()));

    let Setup { tier2, world, .. } = setup;
    let group = tier2.pid();
    kill_one(group);
    assert_eq!(tier2.finish().code(), 137);
    world.wait_until_gone("the cloudlet", &[group]);
    assert!(processes_in(&network).is_empty());
    // The application may have other things to do than to talk to its backend.
    assert_eq!(client.stop().code(), 143);
}

#[test]
fn killing_any_process_of_a_backend_starts_it_again() {
    for victim in 0..3 {
        let (world, application) = world_with_identity();
        let setup = Setup::with(world, &[]);
        let client = Returning::start(&setup, &["--release"], &application);
        let line = line_below(setup.tier2.pid());
        let network = network_of(line[2]);

        kill_one(line[victim]);
        eventually("the old backend ends", || processes_in(&network).is_empty());
        let [first, second] = client.again();
        assert_ne!(first, second, "process {victim} was killed");
        assert_eq!(setup.deployments(), 0);
        eventually("the new backend ends", || children(setup.tier2.pid()).is_empty());
    }
}

/// The first page and the last, of a client that goes on fetching at this interval.
fn first_and_last_page(setup: &Setup, application: &str, rounds: u32, interval: &str) -> (String, String) {
    let script = format!(
        "for round in $(seq 0 {rounds}); do
             [ $round = 0 ] || busybox sleep {interval}
             timeout --foreground 10 busybox wget -q -O- http://helloworld/ || exit 1
         done"
    );
    let client = setup.client(&[], application, &["sh", "-c", &script]).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);
    let mut pages = client.output.lines().map(str::to_owned);
    (pages.next().unwrap(), pages.next_back().unwrap())
}

/// Time is what these two are about.
fn a_client_keeps_its_lease(lease: &str, rounds: u32, interval: &str) {
    let (world, application) = world_with_identity();
    let setup = Setup::with(world, &["--lease", lease, "--expiry-interval", "1"]);
    let (first, last) = first_and_last_page(&setup, &application, rounds, interval);
    assert_eq!(first, last, "the backend was there all the time");
    assert_eq!(deployments(&setup.tier2), 1);
    if lease == "5" {
        nothing_is_deployed(&setup);
    }
}

#[test]
fn a_tunnel_in_use_keeps_the_lease_until_the_client_has_gone() {
    a_client_keeps_its_lease("5", 24, "0.5");
}

#[test]
fn keepalives_keep_the_lease() {
    // A keepalive comes every 30 s.
    a_client_keeps_its_lease("40", 1, "50");
}
