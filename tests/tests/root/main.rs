//! The same as root, where no user namespace is needed: run by `make e2e`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../e2e/setup.rs"]
#[expect(dead_code, reason = "the tests of ordinary users need more of it")]
mod setup;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use setup::{FETCH, Setup};
use sinfonia_tests::{World, children};

const NOBODY: u32 = 65534;

#[test]
fn these_tests_run_as_root() {
    assert!(nix::unistd::geteuid().is_root(), "run by `make e2e`, as root");
}

#[test]
fn the_page_comes_through_the_tunnel_without_a_user_namespace() {
    let world = World::new();
    let application = world.add_page("for root").to_string();
    let setup = Setup::with(world, &[]);
    let client = setup.client(&[], &application, &FETCH).finish();
    assert_eq!((client.code(), client.output.as_str()), (0, "for root"), "{}", client.errors);

    let link = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_string_lossy().into_owned();
    let command = ["readlink", "/proc/self/ns/user", "/proc/self/ns/net"];
    let client = setup.client(&["--release"], &application, &command).finish();
    let namespaces: Vec<_> = client.output.lines().collect();
    assert_eq!(namespaces[0], link("user"), "{}", client.errors);
    assert_ne!(namespaces[1], link("net"));
    assert_eq!(setup.deployments(), 0);
    assert!(children(setup.tier2.pid()).is_empty());
}

#[test]
fn the_files_of_others_stay_reachable() {
    let world = World::new();
    let application = world.add_page("for root").to_string();
    let setup = Setup::with(world, &[]);
    let file = setup.world.path("private");
    fs::write(&file, "of somebody else").unwrap();
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let client = setup.client(&[], &application, &["cat", &file.to_string_lossy()]).finish();
    assert_eq!((client.code(), client.output.as_str()), (0, "of somebody else"), "{}", client.errors);
}

#[test]
fn backends_run_as_nobody_in_their_box() {
    let world = World::new();
    let probe = "{ id -u; id -g; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status
                   touch /etc/broken 2>/dev/null && echo writes to /etc; ls /root /home; } > /tmp/index.html
                 exec busybox httpd -f -p 80 -h /tmp";
    let application = world.add_script(probe).to_string();
    let setup = Setup::with(world, &[]);
    let client = setup.client(&["--release"], &application, &FETCH).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);
    let words: Vec<_> = client.output.split_whitespace().collect();
    let nobody = NOBODY.to_string();
    assert_eq!(words[..4], [nobody.as_str(), &nobody, "CapEff:", "0000000000000000"], "{}", client.output);
    assert_eq!(words[6..8], ["NoNewPrivs:", "1"], "{}", client.output);
    assert!(!client.output.contains("writes"), "{}", client.output);
}
