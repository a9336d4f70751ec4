//! The main job: a page fetched by name through the tunnel, by somebody without any privilege.

use crate::setup::{FETCH, Setup, deployments};
use sinfonia_tests::World;

const PAGE: &str = "<h1>What the tunnel carries, nobody outside reads</h1>";

fn world_with_page() -> (World, String) {
    let world = World::new();
    let application = world.add_page(PAGE).to_string();
    (world, application)
}

#[test]
fn these_tests_run_without_privileges() {
    assert!(!nix::unistd::geteuid().is_root(), "run by `make e2e`, which drops root");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert!(effective.ends_with("0000000000000000"), "{effective}");
}

#[test]
fn a_page_comes_through_the_tunnel_and_only_through_it() {
    let (world, application) = world_with_page();
    let setup = Setup::with(world, &[]);
    let client = setup.client(&[], &application, &FETCH).finish();
    assert_eq!((client.code(), client.output.trim()), (0, PAGE), "{}", client.errors);

    let capture = setup.relay.capture();
    assert!(capture.len() > 148 + PAGE.len(), "a handshake and the page went by");
    for word in [&b"tunnel carries"[..], b"helloworld", b"HTTP/1"] {
        assert!(!capture.windows(word.len()).any(|window| window == word), "seen outside the tunnel");
    }

    // Once more with the wire cut behind the handshake: the page does not come by any other way.
    let script = format!(
        "echo up; read -r _; exec timeout --foreground 2 busybox wget -q -O- http://helloworld/ # {application}"
    );
    let url = setup.tier1_url();
    let mut command = std::process::Command::new(sinfonia_tests::program("sinfonia-tier3"));
    command.args([&url, &application, "sh", "-c", &script]);
    let mut command = setup.world.at_home(command);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut up).unwrap();
    setup.relay.drop_all(true);
    std::io::Write::write_all(client.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[test]
fn a_cut_wire_before_the_handshake_is_a_tunnel_error() {
    let (world, application) = world_with_page();
    let setup = Setup::with(world, &[]);
    setup.relay.drop_all(true);
    let client = setup.client(&["--handshake-timeout", "1"], &application, &FETCH).finish();
    assert_eq!(client.code(), 71, "{}", client.errors);
    assert!(client.errors.contains(&setup.relay.address().to_string()), "{}", client.errors);
}

#[test]
fn the_first_request_never_fails() {
    let (world, application) = world_with_page();
    let setup = Setup::with(world, &[]);
    for run in 0..100 {
        // Another user each time, so that each has a new key and gets a new deployment.
        let client = setup.client_of(&format!("user-{run}"), &["--release"], &application, &FETCH).finish();
        assert_eq!((client.code(), client.output.trim()), (0, PAGE), "run {run}: {}", client.errors);
    }
    assert_eq!(deployments(&setup.tier2), 0);
}
