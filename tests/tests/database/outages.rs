//! Postgres is restarted, killed, full, without connections, silent, or somebody else. Matching goes on.

use std::fs;

use sinfonia_tests::{Postgres, Proxy, Running, World, database_url, eventually};
use uuid::Uuid;

use crate::setup::{
    Clients, Crowd, acknowledged, are_all_there, assert_all_there, base, get, listed, ready_tier1, report, tier1,
};

/// A tier1 on a database, with cloudlets that report and clients that ask.
struct Scene {
    crowd: Crowd,
    clients: Clients,
    tier1: Running,
}

impl Scene {
    fn start(world: &World, port: u16) -> Self {
        let application = world.add_page("never deployed");
        let tier1 = ready_tier1(world, &database_url(port));
        let crowd = Crowd::start(8, &[base(&tier1)]);
        let clients = Clients::start(&base(&tier1), application);
        Self { crowd, clients, tier1 }
    }

    /// Reports are taken again: everything acknowledged is known here, and to a tier1 that starts now.
    fn end(self, world: &World, port: u16) {
        self.crowd.wait_for_progress();
        self.clients.end();
        let acknowledged = self.crowd.end();
        // What was read of the database before may have come after what was acknowledged, for as long as one poll.
        eventually("everything acknowledged is known here", || {
            listed(&base(&self.tier1)).is_some_and(|listed| are_all_there(&acknowledged, &listed))
        });
        let another = ready_tier1(world, &database_url(port));
        assert_all_there(&acknowledged, &listed(&base(&another)).unwrap());
    }
}

#[test]
fn postgres_restarted_and_killed() {
    let world = World::new();
    let mut postgres = Postgres::start(&world, "postgres", &[]);
    let scene = Scene::start(&world, postgres.port());
    for is_killed in [false, true] {
        if is_killed {
            postgres.kill();
        } else {
            postgres.stop();
        }
        scene.crowd.wait_for_refusal();
        postgres.start_again(&world);
        scene.crowd.wait_for_progress();
    }
    let port = postgres.port();
    scene.end(&world, port);
}

#[test]
fn postgres_out_of_connections() {
    let world = World::new();
    let settings = ["max_connections=12", "superuser_reserved_connections=0", "client_connection_check_interval=100"];
    let postgres = Postgres::start(&world, "postgres", &settings);
    let proxy = Proxy::to(postgres.port());
    let scene = Scene::start(&world, proxy.port());
    proxy.cut();
    let mut hogs = Vec::new();
    eventually("others have all connections", || {
        let is_full = !postgres.psql("SELECT 1").status.success();
        if !is_full {
            hogs.push(world.start(postgres.session("SELECT pg_sleep(600)")));
        }
        is_full
    });
    proxy.heal();
    scene.tier1.wait_for_log(&["too many clients"]);
    scene.crowd.wait_for_refusal();
    drop(hogs);
    scene.end(&world, proxy.port());
}

#[test]
fn postgres_out_of_disk() {
    let world = World::new();
    let settings = ["max_wal_size=64MB", "min_wal_size=32MB", "wal_recycle=off"];
    let postgres = Postgres::start_in(&world, "disk", 160, &settings);
    let scene = Scene::start(&world, postgres.port());
    postgres.query("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; cat /dev/zero > fill || true'");
    let fill = postgres.seen("fill");
    assert!(fs::metadata(&fill).unwrap().len() > 1 << 20);
    scene.crowd.wait_for_refusal();
    fs::remove_file(fill).unwrap();
    let port = postgres.port();
    scene.end(&world, port);
}

#[test]
fn postgres_silent() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let proxy = Proxy::to(postgres.port());
    let scene = Scene::start(&world, proxy.port());
    proxy.silence();
    scene.crowd.wait_for_refusal();
    proxy.heal();
    scene.end(&world, proxy.port());
}

#[test]
fn the_address_moves_to_a_promoted_standby() {
    let world = World::new();
    let mut primary = Postgres::start(&world, "primary", &["wal_level=replica"]);
    let standby = primary.standby(&world, "standby", &["primary_slot_name="]);
    // Acknowledged means there too, so that nothing is lost with the primary.
    primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.query("SELECT pg_reload_conf()");
    eventually("the standby is synchronous", || primary.query("SELECT sync_state FROM pg_stat_replication") == "sync");
    let proxy = Proxy::to(primary.port());
    let scene = Scene::start(&world, proxy.port());
    primary.kill();
    proxy.lead_to(standby.port());
    scene.crowd.wait_for_refusal();
    // A standby is no database to report to, nor to start with.
    let early = tier1(&world, &database_url(standby.port()));
    early.wait_for_log(&["in recovery"]);
    let answer = get(&format!("{}/api/v1/cloudlets/", base(&early))).unwrap();
    assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{answer:?}");
    standby.promote();
    early.wait_for_log(&["the database is read"]);
    scene.end(&world, proxy.port());
}

#[test]
fn silence_while_nobody_could_report_does_not_count() {
    let world = World::new();
    let mut postgres = Postgres::start(&world, "postgres", &[]);
    let tier1 = ready_tier1(&world, &database_url(postgres.port()));
    let base = base(&tier1);
    let [silent, other] = [(); 2].map(|()| Uuid::new_v4());
    acknowledged(&base, silent, 1);
    acknowledged(&base, other, 1);
    // As if the database had been away for ten minutes. After a restart tier1 reads these times.
    postgres.stop();
    postgres.start_again(&world);
    postgres.query(
        "UPDATE pulses SET heard = heard - interval '10 minutes';
         UPDATE service SET alive = alive - interval '10 minutes', since = since - interval '10 minutes'",
    );
    postgres.stop();
    postgres.start_again(&world);
    // The next one after it has to be one that looks for silent cloudlets.
    let alive = || postgres.query("SELECT clock_timestamp() - alive < interval '5 minutes' FROM service") == "t";
    eventually("tier1 looks for silent cloudlets", alive);
    let rounds = || postgres.query("SELECT alive FROM service");
    let first = rounds();
    eventually("it looks again", || rounds() != first);
    assert_eq!(listed(&base).unwrap().len(), 2, "nobody is dropped");

    // The same silence while reports could be taken.
    acknowledged(&base, other, 2);
    postgres.query("UPDATE service SET since = since - interval '10 minutes'");
    eventually("the silent one is dropped", || listed(&base).is_some_and(|listed| listed.len() == 1));
    assert_eq!(listed(&base).unwrap().keys().collect::<Vec<_>>(), [&other]);
    assert_eq!(postgres.query("SELECT count(*) FROM pulses"), "1");
    acknowledged(&base, silent, 3);
    assert_eq!(listed(&base).unwrap().len(), 2, "it may come back");
}

#[test]
fn without_its_database_at_the_start_it_waits_and_says_so() {
    let world = World::new();
    let mut postgres = Postgres::start(&world, "postgres", &[]);
    postgres.stop();
    let tier1 = tier1(&world, &database_url(postgres.port()));
    let base = base(&tier1);
    for path in ["/readyz", "/api/v1/cloudlets/"] {
        assert_eq!(get(&format!("{base}{path}")).unwrap().status, 503, "{path}");
    }
    let answer = report(&base, Uuid::new_v4(), 1).unwrap();
    assert_eq!((answer.status, answer.retry_after.is_some()), (503, true), "{answer:?}");
    assert_eq!(answer.body["code"], "database-unavailable");
    postgres.start_again(&world);
    eventually("tier1 is ready", || get(&format!("{base}/readyz")).unwrap().status == 200);
    acknowledged(&base, Uuid::new_v4(), 1);
}

#[test]
fn another_reason_to_wait_for_the_database_is_said() {
    let world = World::new();
    let mut postgres = Postgres::start(&world, "postgres", &[]);
    postgres.stop();
    let missing = format!("postgres://sinfonia@127.0.0.1:{}/missing", postgres.port());
    let tier1 = tier1(&world, &missing);
    tier1.wait_for_log(&["WARN", "the database cannot be reached yet"]);
    postgres.start_again(&world);
    tier1.wait_for_log(&["WARN", "database \\\"missing\\\" does not exist"]);
    postgres.query("CREATE DATABASE missing");
    tier1.wait_for_log(&["the database is read"]);
}

#[test]
fn what_cannot_be_mended_by_waiting_ends_it() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let missing = format!("postgres://sinfonia@127.0.0.1:{}/missing", postgres.port());
    let finished = tier1(&world, &missing).finish();
    assert_eq!(finished.code(), 1);
    assert!(finished.errors.contains("database \"missing\" does not exist"), "{}", finished.errors);

    let exposed = format!("postgres://sinfonia:hush@127.0.0.1:{}/postgres", postgres.port());
    let finished = tier1(&world, &exposed).finish();
    assert_eq!(finished.code(), 1);
    assert!(finished.errors.contains("SINFONIA_DATABASE_URL") && !finished.errors.contains("hush"));
}

/// It reads on from where it was when the reading began, and not everything again and again.
#[test]
fn a_database_that_takes_more_than_a_minute_to_read_is_read_once() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let other = ready_tier1(&world, &url);
    postgres.query(
        "ALTER TABLE holders RENAME TO all_holders;
         CREATE VIEW holders AS SELECT all_holders.* FROM (SELECT pg_sleep(62)) AS slowly, all_holders",
    );
    let late = tier1(&world, &url);
    let reading = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually("it reads", || postgres.query(reading) == "1");
    // Changes are due to be removed meanwhile, but are kept.
    let uuid = Uuid::new_v4();
    acknowledged(&base(&other), uuid, 3);
    let age = "UPDATE service SET marked = marked - interval '10 minutes', mark = pg_current_snapshot()";
    postgres.query(age);
    postgres.query("SELECT pg_sleep(55)");
    assert_eq!(postgres.query("SELECT count(*) > 0 FROM changes"), "t");
    eventually("tier1 is ready", || get(&format!("{}/readyz", base(&late))).unwrap().status == 200);
    eventually("what was reported meanwhile is known", || {
        listed(&base(&late)).is_some_and(|listed| listed.contains_key(&uuid))
    });
    assert_eq!(late.log().matches("the database is read").count(), 1, "{}", late.log());
    assert!(!late.log().contains("reading it anew"), "{}", late.log());
    eventually("old changes are removed again", || {
        postgres.query(age);
        postgres.query("SELECT count(*) FROM changes") == "0"
    });
}
