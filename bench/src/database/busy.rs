//! How busy a machine is with a hundred thousand cloudlets that report: tier1 and Postgres, without the cloudlets' own
//! work.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use procfs::process::Process;
use sinfonia_tests::{Postgres, World, database_url};
use uuid::Uuid;

use super::{SETTINGS, load, ready};
use crate::cpu;
use crate::figure::show;

pub(crate) const FIGURES: [&str; 2] = ["tier1_busy_100k", "tier1_busy_100k_reports_per_s"];

const CLOUDLETS: usize = 100_000;
/// How often each reports.
const PERIOD: Duration = Duration::from_secs(15);
/// Long enough for an entry of each in the history, which has one a minute.
const PERIODS: u32 = 4;

pub(crate) fn run() {
    let world = World::new();
    let postgres = Postgres::start(&world, "postgres", &SETTINGS);
    let tier1 = ready(&world, &database_url(postgres.port()));
    let process = Process::new(tier1.pid().try_into().unwrap()).unwrap();
    let cloudlets: Vec<Uuid> = (0..CLOUDLETS).map(|_| Uuid::new_v4()).collect();
    let registering = Instant::now();
    load::report(tier1.listens(), &cloudlets);
    eprintln!("bench: {CLOUDLETS} cloudlets registered in {:.0?}", registering.elapsed());

    let busy = || [cpu::seconds(&process), cpu::seconds_with_children(postgres.pid())];
    let (before, start) = (busy(), Instant::now());
    let rate = load::report_steadily(tier1.listens(), &cloudlets, PERIOD, PERIODS);
    let (after, time) = (busy(), start.elapsed().as_secs_f64());
    let [ours, theirs] = [0, 1].map(|part| (after[part] - before[part]) / time);
    eprintln!("bench: {rate:.0} reports/s keep tier1 busy for {ours:.2} s each second, Postgres for {theirs:.2} s");
    let cores = available_parallelism().unwrap().get() as f64;
    show(FIGURES[0], (ours + theirs) / cores, "share");
    show(FIGURES[1], rate, "1/s");
}
