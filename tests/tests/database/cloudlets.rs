//! Real cloudlets, and clients that deploy on them.

use serde_json::Value;
use sinfonia_tests::{Running, World, eventually, free_udp_port};
use sinfonia_wire::PublicKey;
use uuid::Uuid;

use crate::setup::{Answer, get, send};

/// Starts a cloudlet that runs backends on this machine.
pub(crate) fn cloudlet(world: &World, name: &str, tier1: &str) -> Running {
    let tunnel = free_udp_port();
    world.cloudlet(name, tier1, tunnel.port(), &tunnel.to_string(), &[])
}

/// Waits until a tier1 knows this many.
pub(crate) fn wait_for_cloudlets(tier1: &str, count: usize) {
    let url = format!("{tier1}/api/v1/cloudlets/");
    eventually("tier1 lists the cloudlets", || {
        get(&url).is_some_and(|answer| answer.body.as_array().is_some_and(|list| list.len() == count))
    });
}

/// A client that nobody has seen before.
pub(crate) fn new_client() -> PublicKey {
    let mut key = [7; 32];
    key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    key.into()
}

/// Asks a tier1 for a deployment; none if it did not answer.
pub(crate) fn deploy(tier1: &str, application: Uuid, client: &PublicKey) -> Option<Answer> {
    let url = format!("{tier1}/api/v1/deploy/{application}/{}", client.url_safe());
    send(ureq::http::Request::post(url).body(()).unwrap())
}

/// The cloudlet that holds the only deployment of an answer.
pub(crate) fn holder(answer: &Answer) -> Uuid {
    let list = answer.body.as_array().filter(|list| answer.status == 200 && list.len() == 1);
    let deployment: &Value = &list.unwrap_or_else(|| panic!("{answer:?}"))[0];
    assert_eq!(deployment["Status"], "Deployed");
    deployment["Cloudlet"].as_str().unwrap().parse().unwrap()
}
