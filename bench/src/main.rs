//! Measures what Sinfonia promises. Each figure is a line `figure <name> <value> <unit>` on standard output, the
//! progress is on standard error.
//!
//! `sinfonia-bench [NAME]` makes all measurements, or the one that gives this figure.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends the bench")]

mod deploy_cost;
mod figure;
mod memory;
mod scene;
mod size;
mod start;
mod stub;

use std::process::ExitCode;

/// A measurement, by the figures it prints.
type Bench = (&'static [&'static str], fn());

const BENCHES: [Bench; 4] = [
    (&start::FIGURES, start::run),
    (&deploy_cost::FIGURES, deploy_cost::run),
    (&memory::FIGURES, memory::run),
    (&size::FIGURES, size::run),
];

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).filter(|name| !name.is_empty());
    let chosen = |(figures, _): &&Bench| wanted.as_deref().is_none_or(|name| figures.contains(&name));
    let benches: Vec<&Bench> = BENCHES.iter().filter(chosen).collect();
    if benches.is_empty() {
        let names: Vec<&str> = BENCHES.iter().flat_map(|(figures, _)| figures.iter().copied()).collect();
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
