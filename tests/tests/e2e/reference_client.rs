//! The reference client (PyPI `sinfonia-tier3`) with our tier1 and tier2.

use std::ffi::OsStr;
use std::process::Command;

use sinfonia_tests::{Finished, World};

use crate::setup::{FETCH, Setup};

const CLIENT: &str = "SINFONIA_REFERENCE_CLIENT";

#[test]
fn the_reference_client_fetches_the_page() {
    let Some(program) = std::env::var_os(CLIENT) else {
        assert!(std::env::var_os("CI").is_none(), "{CLIENT} has to name the executable of the reference client");
        eprintln!("skipped: {CLIENT} names no reference client, `make e2e` installs one");
        return;
    };
    let page = "<p>Fetched with the other client</p>";
    let world = World::new();
    let application = world.add_page(page).to_string();
    let setup = Setup::with(world, &[]);
    let client = fetch(&setup, &program, &application);
    assert_eq!(client.code(), 0, "{}\n{}", client.output, client.errors);
    assert!(client.output.contains(page), "{}\n{}", client.output, client.errors);
    assert!(setup.relay.capture().len() > page.len(), "it went through the tunnel");
    assert_eq!(setup.deployments(), 1);

    // Ours goes on where it left: same key file, same deployment.
    let ours = setup.client(&["--release"], &application, &FETCH).finish();
    assert_eq!((ours.code(), ours.output.trim()), (0, page), "{}", ours.errors);
    assert_eq!(setup.deployments(), 0);
}

/// It enters its namespace without waiting until `unshare` has made it, and hangs if it was too early; the busier the
/// machine, the more often. Such a run is repeated.
fn fetch(setup: &Setup, program: &OsStr, application: &str) -> Finished {
    const TIMED_OUT: i32 = 124;
    for _ in 0..10 {
        let mut command = Command::new("timeout");
        // It does not look the application up in PATH.
        command.args(["--kill-after", "1", "15"]).arg(program);
        command.args([&setup.tier1_url(), application, "/usr/bin/env"]).args(FETCH);
        let client = setup.world.start(command).finish();
        if client.code() != TIMED_OUT {
            return client;
        }
    }
    panic!("the reference client hung ten times in a row");
}
