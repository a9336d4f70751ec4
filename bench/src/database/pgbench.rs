//! Postgres' own measure: prepared upserts of single rows, with fsync and synchronous_commit.

use std::fs;
use std::time::Duration;

use sinfonia_tests::Postgres;

const ROUND: Duration = Duration::from_secs(4);
/// From which the best number is taken.
const CLIENTS: [usize; 5] = [4, 8, 16, 32, 64];
/// The row that a report renews, without what tier1 needs beside it.
const SCRIPT: &str = "\\set row random(1, :rows)
INSERT INTO bench_pulses (id, resources, heard)
VALUES (:row, '{\"cpu_ratio\": 0.25, \"mem_ratio\": 0.5}', clock_timestamp())
ON CONFLICT (id) DO UPDATE SET resources = excluded.resources, heard = excluded.heard;
";

/// Makes the table and finds the best number of clients.
pub(super) fn prepare(postgres: &Postgres, rows: usize) -> usize {
    postgres.query(&format!(
        "CREATE TABLE bench_pulses (id bigint PRIMARY KEY, resources json NOT NULL, heard timestamptz NOT NULL)
            WITH (fillfactor = 50);
         INSERT INTO bench_pulses SELECT n, '{{}}', clock_timestamp() FROM generate_series(1, {rows}) AS n"
    ));
    fs::write(script(), SCRIPT.replace(":rows", &rows.to_string())).unwrap();
    let tried = CLIENTS.map(|clients| (clients, upserts(postgres, clients)));
    eprintln!("bench: pgbench's upserts/s by clients {tried:.0?}");
    tried.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
}

/// Upserts per second.
pub(super) fn upserts(postgres: &Postgres, clients: usize) -> f64 {
    let mut command = postgres.command("pgbench");
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file"]).arg(script());
    command.args(["--client", &clients.to_string(), "--time", &ROUND.as_secs().to_string()]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn script() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("sinfonia-pgbench-{}.sql", std::process::id()))
}
