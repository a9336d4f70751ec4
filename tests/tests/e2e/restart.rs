//! Servers that go and come back under a running client.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use sinfonia_tests::{World, eventually};

use crate::setup::{
    FETCH, Returning, Setup, ask, cloudlet, deployment_path, get, url, wait_for_cloudlets, world_with_identity,
};

/// Before a client would find out by itself that its cloudlet has forgotten the session: after 15 s.
const HEALED: Duration = Duration::from_secs(12);

/// A cloudlet's uuid, as tier1 lists it, and the deployment of the client.
fn known(setup: &Setup, application: &str) -> (Vec<Value>, Value) {
    let listed: Vec<Value> = serde_json::from_str(&get(&format!("{}/api/v1/cloudlets/", setup.tier1_url()))).unwrap();
    let path = deployment_path(&setup.world, application);
    let (status, deployment) = ask("GET", &(url(&setup.tier2) + &path));
    assert_eq!(status, 200, "{deployment}");
    assert_eq!(deployment[0]["Status"], "Deployed");
    (listed.into_iter().map(|cloudlet| cloudlet["uuid"].clone()).collect(), deployment)
}

/// A cloudlet learns where its clients are from their packets, and writes it down from time to time.
fn wait_until_remembered(world: &World) {
    eventually("the client's endpoint is remembered", || {
        fs::read_to_string(world.path("cloudlet/deployments.json")).is_ok_and(|text| text.contains("\"endpoint\""))
    });
}

#[test]
fn a_tunnel_survives_the_restart_of_its_cloudlet() {
    for signal in ["KILL", "TERM"] {
        let (world, application) = world_with_identity();
        let mut setup = Setup::with(world, &[]);
        let client = Returning::start(&setup, &[], &application);
        wait_until_remembered(&setup.world);
        let before = known(&setup, &application);

        setup.tier2.signal(signal);
        eventually("the cloudlet ends", || !setup.tier2.is_running());
        let tier1 = setup.tier1_url();
        setup.tier2 = cloudlet(&setup.world, "cloudlet", &tier1, setup.tunnel.port(), &setup.relay, &[]);
        let begun = Instant::now();
        let [first, second] = client.again();
        assert!(begun.elapsed() < HEALED, "the cloudlet did not call: {:?}", begun.elapsed());
        assert_ne!(first, second, "a backend that was made again");
        assert_eq!(known(&setup, &application), before, "after {signal}");
    }
}

#[test]
fn tier1_learns_again_what_it_forgot() {
    let (world, application) = world_with_identity();
    let mut setup = Setup::with(world, &[]);
    let client = Returning::start(&setup, &[], &application);
    let before = known(&setup, &application);

    let address = setup.tier1.listens();
    setup.tier1.signal("KILL");
    eventually("tier1 ends", || !setup.tier1.is_running());
    setup.tier1 = setup.world.tier1(&["--port", &address.port().to_string()]);
    assert_eq!(setup.tier1.listens(), address);
    wait_for_cloudlets(&setup.tier1, 1);
    assert_eq!(known(&setup, &application), before);
    let [first, second] = client.again();
    assert_eq!(first, second);
    let again = setup.client(&["--release"], &application, &FETCH).finish();
    assert_eq!((again.code(), again.output.trim()), (0, first.as_str()), "{}", again.errors);
    assert_eq!(setup.deployments(), 0);
}
