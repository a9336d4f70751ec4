//! Who holds a client's deployment is known to all replicas, also to those that come later.

use serde_json::json;
use sinfonia_tests::{Postgres, World, database_url, eventually};
use uuid::Uuid;

use crate::cloudlets::{cloudlet, deploy, holder, new_client, wait_for_cloudlets};
use crate::setup::{base, endpoint, report_as, send};

/// Enough that chance does not lead all of them to the same of two cloudlets again: once in 65536 runs.
const CLIENTS: usize = 16;

#[test]
fn every_replica_leads_a_client_to_where_its_deployment_is() {
    let world = World::new();
    let application = world.add_page("held");
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    // Only memory makes a choice that is not by chance.
    let start = || world.tier1(&["--database-url", &url, "--match", "random"]);
    let replicas = [start(), start()];
    let [first, second] = replicas.each_ref().map(base);
    let _cloudlets = [cloudlet(&world, "one", &first), cloudlet(&world, "two", &second)];
    for base in [&first, &second] {
        wait_for_cloudlets(base, 2);
    }

    let clients: Vec<_> = (0..CLIENTS).map(|_| new_client()).collect();
    let held: Vec<_> = clients.iter().map(|client| holder(&deploy(&first, application, client).unwrap())).collect();
    let saved = || postgres.query("SELECT count(*) FROM holders");
    eventually("the database knows the holders", || saved() == CLIENTS.to_string());
    // Whoever knows of this has read what was committed before.
    let marker = json!({"uuid": Uuid::new_v4(), "endpoint": endpoint(), "draining": true});
    assert_eq!(report_as(&first, &marker).unwrap().status, 204);
    wait_for_cloudlets(&second, 3);
    let found = |base: &str| -> Vec<_> {
        clients.iter().map(|client| holder(&deploy(base, application, client).unwrap())).collect()
    };
    assert_eq!(found(&second), held);

    let [one, two] = replicas;
    two.kill();
    let third = start();
    let base = base(&third);
    wait_for_cloudlets(&base, 3);
    assert_eq!(found(&base), held, "one that starts later knows it too");

    let released = format!("{base}/api/v1/deploy/{application}/{}", clients[0].url_safe());
    assert!(send(ureq::http::Request::delete(released).body(()).unwrap()).unwrap().status < 300);
    eventually("nobody holds it any more", || saved() == (CLIENTS - 1).to_string());
    drop(one);
}
