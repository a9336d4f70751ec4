//! What tier3 itself takes while an application uses the tunnel.

use procfs::process::{Process, all_processes};
use sinfonia_tests::eventually;

use crate::figure::{median, show};
use crate::scene::Scene;

pub(crate) const FIGURES: [&str; 2] = ["tier3_rss_mb", "tier3_pss_mb"];

const ROUNDS: usize = 5;
const PROGRAM: &str = "sinfonia-tier3";

/// Starts an application that fetches the page and stays, and looks at all of tier3's processes but the application's.
pub(crate) fn run() {
    let scene = Scene::new();
    let (resident, proportional): (Vec<f64>, Vec<f64>) = (0..ROUNDS).map(|_| megabytes(&scene)).unzip();
    eprintln!("bench: MB with the tunnel up, resident {resident:.1?}, proportional {proportional:.1?}");
    show(FIGURES[0], median(resident), "MB");
    show(FIGURES[1], median(proportional), "MB");
}

/// Rss and Pss.
fn megabytes(scene: &Scene) -> (f64, f64) {
    let application = "busybox wget -q -O- http://helloworld/ && echo fetched && exec sleep 600";
    let client = scene.world.tier3(&[&scene.url, &scene.application.to_string(), "sh", "-c", application]);
    eventually("the page is fetched", || client.output().contains("fetched"));
    let own = own_processes(i32::try_from(client.pid()).unwrap());
    let sum = |field: &str| own.iter().map(|process| memory(process, field)).sum::<f64>() / 1e6;
    let megabytes = (sum("Rss"), sum("Pss"));
    client.stop();
    megabytes
}

/// The client and what it started of its own program.
fn own_processes(client: i32) -> Vec<Process> {
    let parents: Vec<(i32, i32)> =
        all_processes().unwrap().flatten().filter_map(|process| process.stat().ok()).map(|s| (s.pid, s.ppid)).collect();
    let mut family = vec![client];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child));
        next += 1;
    }
    let processes = family.into_iter().map(|pid| Process::new(pid).unwrap());
    let own: Vec<Process> =
        processes.filter(|process| process.exe().is_ok_and(|path| path.ends_with(PROGRAM))).collect();
    eprintln!("bench: {} processes of tier3", own.len());
    own
}

/// Bytes.
pub(crate) fn memory(process: &Process, field: &str) -> f64 {
    let maps = process.smaps_rollup().unwrap().memory_map_rollup;
    maps.iter().filter_map(|map| map.extension.map.get(field)).sum::<u64>() as f64
}
