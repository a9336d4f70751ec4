//! The reference client (PyPI `sinfonia-tier3`) with our tier1 and tier2.

use std::process::Command;

use sinfonia_tests::World;

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
    let mut command = Command::new(program);
    // It does not look the application up in PATH.
    command.args([&setup.tier1_url(), &application, "/usr/bin/env"]).args(FETCH);
    let client = setup.world.start(command).finish();
    assert_eq!(client.code(), 0, "{}\n{}", client.output, client.errors);
    assert!(client.output.contains(page), "{}\n{}", client.output, client.errors);
    assert!(setup.relay.capture().len() > page.len(), "it went through the tunnel");
    assert_eq!(setup.deployments(), 1);

    // Ours goes on where it left: same key file, same deployment.
    let ours = setup.client(&["--release"], &application, &FETCH).finish();
    assert_eq!((ours.code(), ours.output.trim()), (0, page), "{}", ours.errors);
    assert_eq!(setup.deployments(), 0);
}
