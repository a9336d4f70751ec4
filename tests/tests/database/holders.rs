//! Who holds a client's deployment is known to all replicas, also to those that come later.

use std::net::TcpListener;

use serde_json::json;
use sinfonia_tests::{Postgres, World, database_url, eventually};
use uuid::Uuid;

use crate::cloudlets::{cloudlet, deploy, holder, new_client, wait_for_cloudlets};
use crate::setup::{base, endpoint, ready_tier1, report_as, send};

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

#[test]
fn who_holds_what_is_saved_before_the_end() {
    let world = World::new();
    let application = world.add_page("held");
    let postgres = Postgres::start(&world, "postgres", &["client_connection_check_interval=100"]);
    let tier1 = ready_tier1(&world, &database_url(postgres.port()));
    // A cloudlet that hangs up may hold a deployment.
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/api/v1/deploy", rude.local_addr().unwrap());
    std::thread::spawn(move || rude.incoming().for_each(drop));
    let report = json!({"uuid": Uuid::new_v4(), "endpoint": endpoint});
    assert_eq!(report_as(&base(&tier1), &report).unwrap().status, 204);

    let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'holders'::regclass AND mode = 'ExclusiveLock'";
    let lock = world.start(postgres.session("BEGIN; LOCK TABLE holders IN EXCLUSIVE MODE; SELECT pg_sleep(600)"));
    eventually("nobody can write", || postgres.query(locked) == "1");
    let deploy = format!("{}/api/v1/deploy/{application}/{}", base(&tier1), new_client().url_safe());
    assert_eq!(send(ureq::http::Request::post(deploy).body(()).unwrap()).unwrap().status, 502);
    tier1.wait_for_log(&["who holds which deployment is not saved"]);
    tier1.signal("TERM");
    tier1.wait_for_log(&["who holds which deployment is being saved"]);
    drop(lock);
    assert_eq!(tier1.finish().code(), 0);
    assert_eq!(postgres.query("SELECT count(*) FROM holders"), "1");
}

#[test]
fn all_that_nobody_asks_for_any_more_is_forgotten() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    assert_eq!(ready_tier1(&world, &url).stop().code(), 0);
    postgres.query(
        "INSERT INTO holders (application, key, holding, used)
         SELECT gen_random_uuid(), uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), '{}',
             now() - interval '2 days'
         FROM generate_series(1, 20001)",
    );
    let _tier1 = ready_tier1(&world, &url);
    eventually("they are gone", || postgres.query("SELECT count(*) FROM holders") == "0");
}
