//! Measures what Sinfonia promises. Each figure is a line `figure <name> <value> <unit>` on standard output, the
//! progress is on standard error.
//!
//! `sinfonia-bench [NAME]` makes all measurements, or the one that gives this figure: with `KUBECONFIG` set those on the
//! cluster, else those on this machine.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends the bench")]

mod cluster;
mod cpu;
mod database;
mod deploy_cost;
mod figure;
mod matching;
mod memory;
mod scene;
mod size;
mod start;
mod stub;
mod telemetry_cost;
mod tunnel;

use std::process::ExitCode;

/// A measurement, by the figures it prints.
type Bench = (&'static [&'static str], fn());

const BENCHES: [Bench; 10] = [
    (&start::FIGURES, start::run),
    (&deploy_cost::FIGURES, deploy_cost::run),
    (&telemetry_cost::FIGURES, telemetry_cost::run),
    (&matching::candidates::FIGURES, matching::candidates::run),
    (&matching::spread::FIGURES, matching::spread::run),
    (&database::FIGURES, database::run),
    (&database::busy::FIGURES, database::busy::run),
    (&memory::FIGURES, memory::run),
    (&size::FIGURES, size::run),
    (&tunnel::FIGURES, tunnel::run),
];

fn main() -> ExitCode {
    sinfonia_tunnel::helper::run_if_invoked();
    let wanted = std::env::args().nth(1).filter(|name| !name.is_empty());
    match wanted.as_deref() {
        Some(matching::candidates::EMPTY) => return done(matching::candidates::empty),
        Some(tunnel::INSIDE) => return done(tunnel::inside),
        Some(tunnel::OURS) => return done(tunnel::end),
        _ => {}
    }
    let chosen = |(figures, _): &&Bench| wanted.as_deref().is_none_or(|name| figures.contains(&name));
    let all = || BENCHES.iter().chain(&cluster::BENCHES);
    let here: &[Bench] = if std::env::var_os("KUBECONFIG").is_some() { &cluster::BENCHES } else { &BENCHES };
    let benches: Vec<&Bench> = here.iter().filter(chosen).collect();
    if !all().any(|bench| chosen(&bench)) {
        let names: Vec<&str> = all().flat_map(|(figures, _)| figures.iter().copied()).collect();
        eprintln!("no figure has the name {}; choose from {}", wanted.unwrap_or_default(), names.join(", "));
        return ExitCode::from(2);
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: not a release build, the figures mean little");
    }
    for (_, run) in benches {
        run();
    }
    ExitCode::SUCCESS
}

/// Does the part of a measurement that needs a process of its own.
fn done(part: fn()) -> ExitCode {
    part();
    ExitCode::SUCCESS
}
