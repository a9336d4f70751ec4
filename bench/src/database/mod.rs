//! What tier1 does on Postgres: durable reports beside Postgres' own measure, start with many cloudlets, and how soon
//! one replica knows what another was told. All on this machine, the load's own work included.

pub(crate) mod busy;
mod load;
mod pgbench;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sinfonia_tests::{Postgres, Running, World, database_url, eventually};
use uuid::Uuid;

use crate::figure::{interleaved, median, show};
use crate::scene::url;

pub(crate) const FIGURES: [&str; 6] = [
    "tier1_reports_vs_pgbench",
    "tier1_reports_vs_pgbench_two_replicas",
    "tier1_reports_per_s",
    "pgbench_upserts_per_s",
    "tier1_start_1m_s",
    "tier1_replica_lag_ms",
];

/// Cloudlets that report, and rows that pgbench renews.
const ROWS: usize = 10_000;
const ROUNDS: usize = 5;
const MANY: usize = 1_000_000;
const LAGS: usize = 100;

/// As it comes: with fsync and synchronous_commit.
const SETTINGS: [&str; 2] = ["shared_buffers=1GB", "max_wal_size=4GB"];

pub(crate) fn run() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &SETTINGS);
    let url_of_database = database_url(postgres.port());
    let start = || ready(&world, &url_of_database);
    let first = start();
    let load = Load::new(&postgres, &first);
    let (reports, upserts) = load.beside_pgbench(&postgres, &[&first]);
    show(FIGURES[0], reports / upserts, "ratio");
    show(FIGURES[2], reports, "1/s");
    show(FIGURES[3], upserts, "1/s");
    let second = start();
    let (reports, upserts) = load.beside_pgbench(&postgres, &[&first, &second]);
    show(FIGURES[1], reports / upserts, "ratio");
    let replicas = [first, second];
    lag(&replicas);
    drop(replicas);
    start_with_many(&world, &postgres);
}

fn ready(world: &World, database: &str) -> Running {
    let tier1 = world.tier1(&["--database-url", database]);
    wait_until_ready(&tier1);
    tier1
}

fn wait_until_ready(tier1: &Running) {
    let ready = format!("{}/readyz", url(tier1));
    eventually("tier1 is ready", || load::get(&ready).is_some());
}

/// From the acknowledgement of a new cloudlet by one to its being listed by the other.
fn lag(replicas: &[Running; 2]) {
    let list = format!("{}/api/v1/cloudlets/", url(&replicas[1]));
    let lags: Vec<f64> = (0..LAGS)
        .map(|_| {
            let uuid = Uuid::new_v4();
            load::report(replicas[0].listens(), &[uuid]);
            let told = Instant::now();
            let name = uuid.to_string();
            while !load::get(&list).is_some_and(|listed| listed.contains(&name)) {
                assert!(told.elapsed() < Duration::from_secs(10), "the other replica never knew");
            }
            told.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let most = lags.iter().copied().fold(0.0, f64::max);
    eprintln!("bench: a replica knows what another was told after {:.1} ms, at most {most:.1}", median(lags.clone()));
    show(FIGURES[5], median(lags), "ms");
}

/// Cloudlets that report, and how many clients of pgbench do most.
struct Load {
    cloudlets: Vec<Uuid>,
    clients: usize,
}

impl Load {
    fn new(postgres: &Postgres, tier1: &Running) -> Self {
        let cloudlets: Vec<Uuid> = (0..ROWS).map(|_| Uuid::new_v4()).collect();
        load::report(tier1.listens(), &cloudlets);
        Self { cloudlets, clients: pgbench::prepare(postgres, ROWS) }
    }

    /// Rounds of reports and of pgbench in turn, on the same server: how many of each per second.
    fn beside_pgbench(&self, postgres: &Postgres, replicas: &[&Running]) -> (f64, f64) {
        let addresses: Vec<_> = replicas.iter().map(|tier1| tier1.listens()).collect();
        let reports = || load::reports_per_second(&addresses, &self.cloudlets);
        let (reports, upserts) = interleaved(ROUNDS, reports, || pgbench::upserts(postgres, self.clients));
        eprintln!("bench: reports/s with {} tier1 {reports:.0?}", replicas.len());
        eprintln!("bench: pgbench's upserts/s with {} clients {upserts:.0?}", self.clients);
        (median(reports), median(upserts))
    }
}

/// From the start of the process until it is ready, with a million cloudlets in the database.
fn start_with_many(world: &World, postgres: &Postgres) {
    eprintln!("bench: a million cloudlets in the database");
    let mut sql = String::from("TRUNCATE cloudlets, pulses, changes;");
    let _ = write!(
        sql,
        r#"BEGIN;
        ALTER TABLE cloudlets DISABLE TRIGGER USER;
        INSERT INTO cloudlets (id, info, addresses, places)
        SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
            format('{{"endpoint": "https://cloudlet-%s.example.org/api/v1/deploy", "name": "cloudlet-%s", "locations": [[%s, %s]]}}',
                n, n, degrees(asin(random() * 2 - 1)), random() * 360 - 180)::json,
            '["203.0.113.1"]', '[]'
        FROM generate_series(1, {MANY}) AS n;
        INSERT INTO pulses (id, resources, heard)
        SELECT id, '{{"cpu_ratio": 0.25, "mem_ratio": 0.5}}', clock_timestamp() FROM cloudlets;
        ALTER TABLE cloudlets ENABLE TRIGGER USER;
        COMMIT"#
    );
    postgres.query(&sql);
    postgres.query("ANALYZE");
    let database = database_url(postgres.port());
    let started = Instant::now();
    let tier1 = world.tier1(&["--database-url", &database]);
    let ready = format!("{}/readyz", url(&tier1));
    while load::get(&ready).is_none() {
        assert!(started.elapsed() < Duration::from_secs(300), "tier1 is not ready: {}", tier1.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    show(FIGURES[4], started.elapsed().as_secs_f64(), "s");
}
