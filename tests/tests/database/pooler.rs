//! A real transaction pooler between tier1s and Postgres.

use std::time::{Duration, Instant};

use sinfonia_tests::{Postgres, Running, World, database_url, eventually};
use uuid::Uuid;

use crate::pgbouncer::Pooler;
use crate::setup::{Crowd, acknowledged, assert_all_there, base, get, listed};

fn ready(tier1: &Running) {
    let url = format!("{}/readyz", base(tier1));
    eventually("tier1 is ready", || get(&url).is_some_and(|answer| answer.status == 200));
}

/// Reports by all replicas at once, then one after another, of which the others know soon.
fn reports_are_taken_and_followed(replicas: &[Running]) {
    replicas.iter().for_each(ready);
    let bases: Vec<String> = replicas.iter().map(base).collect();
    let crowd = Crowd::start(12, &bases);
    for _ in 0..20 {
        crowd.wait_for_progress();
    }
    let known = crowd.end();
    let mut slowest = Duration::ZERO;
    for (round, base) in bases.iter().cycle().take(10).enumerate() {
        let uuid = Uuid::new_v4();
        acknowledged(base, uuid, 1);
        let start = Instant::now();
        let others = bases.iter().cycle().skip(round + 1).take(bases.len() - 1);
        for other in others {
            eventually("another replica lists it", || listed(other).unwrap().contains_key(&uuid));
        }
        slowest = slowest.max(start.elapsed());
    }
    eprintln!("the others knew after {slowest:?} at most, wanted within a second");
    for (base, tier1) in bases.iter().zip(replicas) {
        assert_all_there(&known, &listed(base).unwrap());
        let log = tier1.log();
        assert!(!log.contains("prepared statement"), "{log}");
        assert!(!log.contains("\"WARN\"") && !log.contains("\"ERROR\""), "{log}");
    }
}

#[test]
fn behind_a_pooler_with_a_way_past_it() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let pooler = Pooler::start(&world, &postgres);
    let (url, direct) = (database_url(pooler.port), database_url(postgres.port()));
    let options = ["--database-url", &url, "--database-direct-url", &direct, "--history-step", "0"];
    let replicas = [world.tier1(&options), world.tier1(&options)];
    reports_are_taken_and_followed(&replicas);
    let listening = postgres.query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%sinfonia_changes%'");
    assert_eq!(listening, "2");
}

#[test]
fn behind_a_pooler_that_nobody_told_of() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &[]);
    let pooler = Pooler::start(&world, &postgres);
    let url = database_url(pooler.port);
    let options = ["--database-url", &url, "--history-step", "0"];
    let replicas = [world.tier1(&options), world.tier1(&options)];
    for tier1 in &replicas {
        tier1.wait_for_log(&["changes are polled for: is there a pooler"]);
    }
    reports_are_taken_and_followed(&replicas);
}
