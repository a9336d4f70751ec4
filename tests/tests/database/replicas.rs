//! Several tier1s on one database say the same.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use sinfonia_tests::{Postgres, Proxy, Running, World, database_url, eventually};
use uuid::Uuid;

use crate::setup::{Crowd, acknowledged, assert_all_there, base, endpoint, listed, ready_tier1, report_as};

/// What replicas may need to agree.
const SOON: Duration = Duration::from_secs(1);

fn all_agree(bases: &[String]) -> bool {
    let lists: Vec<_> = bases.iter().map(|base| listed(base).unwrap()).collect();
    lists.windows(2).all(|pair| pair[0] == pair[1])
}

fn agreement(bases: &[String], size: usize) {
    eventually("all replicas list the same", || all_agree(bases) && listed(&bases[0]).unwrap().len() == size);
}

#[test]
fn replicas_agree_after_concurrent_reports_expiry_and_deletes() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let replicas: Vec<Running> = (0..3).map(|_| ready_tier1(&world, &url)).collect();
    let bases: Vec<String> = replicas.iter().map(base).collect();
    let [deleted, silent] = [(); 2].map(|()| Uuid::new_v4());
    acknowledged(&bases[0], deleted, 1);
    postgres.query(&format!(
        "BEGIN;
         INSERT INTO cloudlets (id, info, addresses, places)
         VALUES ('{silent}', '{{\"endpoint\": \"{}\"}}', '[]', '[]');
         INSERT INTO pulses (id, resources, heard)
         VALUES ('{silent}', '{{\"count\": 1}}', clock_timestamp() - interval '10 minutes');
         COMMIT",
        endpoint()
    ));
    agreement(&bases, 2);
    let crowd = Crowd::start(12, &bases);
    postgres.query(&format!("DELETE FROM cloudlets WHERE id = '{deleted}'"));
    postgres.query("UPDATE service SET since = since - interval '10 minutes'");
    crowd.wait_for_progress();
    eventually("the silent one is dropped everywhere", || {
        bases.iter().all(|base| !listed(base).unwrap().contains_key(&silent))
    });
    let acknowledged = crowd.end();
    let start = Instant::now();
    agreement(&bases, 12);
    eprintln!("replicas agreed after {:?}, wanted within {SOON:?}", start.elapsed());
    for base in &bases {
        assert_all_there(&acknowledged, &listed(base).unwrap());
    }
    let deadlocks = postgres.query("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'");
    assert_eq!(deadlocks, "0");
}

#[test]
fn a_cut_and_a_silent_connection_lose_nothing() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let proxy = Proxy::to(postgres.port());
    let (near, far) =
        (ready_tier1(&world, &database_url(postgres.port())), ready_tier1(&world, &database_url(proxy.port())));
    let bases = [base(&near), base(&far)];
    let mut size = 0;
    let disturbances: [fn(&Proxy); 2] = [Proxy::cut, Proxy::silence];
    for disturb in disturbances {
        disturb(&proxy);
        for _ in 0..5 {
            acknowledged(&bases[0], Uuid::new_v4(), 1);
            size += 1;
        }
        proxy.heal();
        agreement(&bases, size);
    }
}

#[test]
fn the_listening_connection_alone_may_be_lost() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let proxy = Proxy::to(postgres.port());
    let url = database_url(postgres.port());
    let direct = database_url(proxy.port());
    let near = ready_tier1(&world, &url);
    let far = world.tier1(&["--database-url", &url, "--database-direct-url", &direct]);
    far.wait_for_log(&["the database is read"]);
    let bases = [base(&near), base(&far)];
    acknowledged(&bases[0], Uuid::new_v4(), 1);
    agreement(&bases, 1);
    proxy.cut();
    far.wait_for_log(&["no notifications from the database"]);
    acknowledged(&bases[0], Uuid::new_v4(), 1);
    agreement(&bases, 2);
    proxy.heal();
    far.wait_for_log(&["notifications from the database come again"]);
    acknowledged(&bases[0], Uuid::new_v4(), 1);
    agreement(&bases, 3);
}

/// The transaction that began first commits last, when everybody has read what came after it.
#[test]
fn commits_out_of_order_are_missed_by_nobody() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let replicas = [ready_tier1(&world, &url), ready_tier1(&world, &url)];
    let bases = replicas.each_ref().map(base);
    let [late, early] = [(); 2].map(|()| Uuid::new_v4());
    let go = world.path("go");
    let info = json!({"uuid": late, "endpoint": endpoint()});
    let mut session: Command = postgres.session(&format!(
        "BEGIN;
         INSERT INTO cloudlets (id, info, addresses, places) VALUES ('{late}', '{info}', '[]', '[]');
         INSERT INTO pulses (id, resources, heard) VALUES ('{late}', '{{\"count\": 7}}', clock_timestamp());
         COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; until [ -e {go} ]; do sleep 0.05; done';
         COMMIT",
        go = go.display()
    ));
    session.env("PGAPPNAME", "late");
    let session = world.start(session);
    eventually("the transaction has its number", || {
        postgres
            .query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'late' AND backend_xid IS NOT NULL")
            == "1"
    });
    acknowledged(&bases[0], early, 1);
    agreement(&bases, 1);
    acknowledged(&bases[1], early, 2);
    agreement(&bases, 1);
    std::fs::write(go, "").unwrap();
    assert_eq!(session.finish().code(), 0);
    agreement(&bases, 2);
    assert_eq!(listed(&bases[0]).unwrap()[&late], 7);
}

#[test]
fn what_a_cloudlet_declares_is_known_to_all() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let url = database_url(postgres.port());
    let replicas = [ready_tier1(&world, &url), ready_tier1(&world, &url)];
    let bases = replicas.each_ref().map(base);
    let uuid = Uuid::new_v4();
    for (round, name) in ["one", "two"].iter().enumerate() {
        let info = json!({
            "uuid": uuid, "endpoint": endpoint(), "name": name, "locations": [[40.443_231_234_567_89, -79.5]],
            "labels": {"site": "north"}, "draining": true, "resources": {"count": round},
        });
        assert_eq!(report_as(&bases[round], &info).unwrap().status, 204);
        eventually("all replicas say the same of it", || {
            let lists =
                bases.each_ref().map(|base| crate::setup::get(&format!("{base}/api/v1/cloudlets/")).unwrap().body);
            lists[0] == lists[1] && lists[0][0]["name"] == *name && lists[0][0]["draining"] == true
        });
    }
    let registered = || postgres.query("SELECT xmin FROM cloudlets");
    let before = registered();
    for base in &bases {
        let info = json!({
            "uuid": uuid, "endpoint": endpoint(), "name": "two", "locations": [[40.443_231_234_567_89, -79.5]],
            "labels": {"site": "north"}, "draining": true, "resources": {"count": 9},
        });
        assert_eq!(report_as(base, &info).unwrap().status, 204);
    }
    assert_eq!(registered(), before, "whichever replica it reports to, the same again is no registration");
}
