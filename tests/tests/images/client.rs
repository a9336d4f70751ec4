//! The client in a container.

use crate::engine::{Engine, PAGE, Scene, with};

const FLAGS: [&str; 5] = ["--cap-drop=ALL", "--cap-add", "NET_ADMIN", "--device", "/dev/net/tun"];
const FETCH: [&str; 2] = ["fetch", "http://helloworld/"];

#[test]
fn podman_runs_it() {
    with(Engine::Podman, |scene| {
        fetches_with_its_flags(scene);
        names_the_flag_that_is_missing(scene);
        keeps_the_tunnel_up_for_others(scene);
        leaves_nothing_in_a_network_that_stays(scene);
    });
}

#[test]
fn docker_runs_it() {
    with(Engine::Docker, |scene| {
        fetches_with_its_flags(scene);
        names_the_flag_that_is_missing(scene);
        keeps_the_tunnel_up_for_others(scene);
        leaves_nothing_in_a_network_that_stays(scene);
    });
}

fn fetches_with_its_flags(scene: &Scene) {
    let client = scene.client(&FLAGS, &FETCH);
    assert_eq!((client.code(), client.output.as_str()), (0, PAGE), "{}", client.errors);
    // As it is written in the README, with whatever rights the engine gives beside.
    let client = scene.client(&FLAGS[1..], &FETCH);
    assert_eq!((client.code(), client.output.as_str()), (0, PAGE), "{}", client.errors);
    let client = scene.client(&FLAGS, &["fetch", "http://helloworld/not-there"]);
    assert_eq!(client.code(), 1, "{}", client.errors);
    assert!(client.errors.contains("404"), "{}", client.errors);
}

fn names_the_flag_that_is_missing(scene: &Scene) {
    let refused = |flags: &[&str], words: &[&str], expected: &[&str]| {
        let client = scene.client(flags, words);
        assert_eq!(client.code(), 77, "{flags:?}: {}", client.errors);
        for flag in expected {
            assert!(client.errors.contains(flag), "{flags:?}: {}", client.errors);
        }
    };
    let (capability, device) = ("--cap-add NET_ADMIN", "--device /dev/net/tun");
    // Where an engine lets containers make namespaces, nothing but the device is missing.
    refused(&[], &FETCH, &[device]);
    refused(&FLAGS[..3], &FETCH, &[device]);
    refused(&FLAGS[..3], &[], &[device]);
    refused(&FLAGS[3..], &[], &[capability]);
    refused(&[], &[], &[capability, device]);
    let client = scene.client(&FLAGS[3..], &FETCH);
    let works = client.code() == 0 && client.output == PAGE;
    assert!(works || client.code() == 77 && client.errors.contains(capability), "{}", client.errors);
}

fn keeps_the_tunnel_up_for_others(scene: &Scene) {
    let name = format!("sinfonia-test-{}", std::process::id());
    let flags = [&FLAGS[..], &["--name", &name]].concat();
    let client = scene.start(&flags, &[]);
    client.wait_for_log(&["keeping the tunnel", "--network container:"]);
    for _ in 0..2 {
        let other = scene.beside(&name, &FETCH);
        assert_eq!((other.code(), other.output.as_str()), (0, PAGE), "{}", other.errors);
    }
    scene.stop(&name);
    let client = client.finish();
    assert_eq!(client.code(), 0, "{}", client.errors);
}

fn leaves_nothing_in_a_network_that_stays(scene: &Scene) {
    let place = format!("sinfonia-test-place-{}", std::process::id());
    scene.rest(&place);
    let state =
        || (scene.inside(&place, &["cat", "/etc/resolv.conf"]), scene.inside(&place, &["ls", "/sys/class/net"]));
    let before = state();
    let network = format!("container:{place}");
    let flags = [&FLAGS[..], &["--network", &network]].concat();
    let client = scene.client(&flags, &FETCH);
    assert_eq!((client.code(), client.output.as_str()), (0, PAGE), "{}", client.errors);
    assert_eq!(state(), before);

    // Killed, it could put nothing back; the next one does.
    let name = format!("sinfonia-test-killed-{}", std::process::id());
    let client = scene.start(&[&flags[..], &["--name", &name]].concat(), &[]);
    client.wait_for_log(&["keeping the tunnel"]);
    assert_ne!(state(), before);
    let client_ends = scene.kill(&name, client);
    assert_eq!(client_ends.code(), 137, "{}", client_ends.errors);
    let client = scene.client(&flags, &FETCH);
    assert_eq!((client.code(), client.output.as_str()), (0, PAGE), "{}", client.errors);
    assert_eq!(state(), before);
}
