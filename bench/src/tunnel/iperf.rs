//! Throughput by iperf3.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::lab::{End, Kept};

/// How long one measurement takes.
pub(super) const SECONDS: u32 = 3;

/// Gbit/s of one TCP connection from `client` to `server`, as the server received it.
pub(super) fn tcp(client: &End, server: &End, address: &str) -> f64 {
    let mut command = server.command("iperf3");
    command.args(["--server", "--one-off", "--forceflush", "--bind", address]).stdout(Stdio::piped());
    let mut listener = Kept(command.spawn().unwrap());
    let mut lines = BufReader::new(listener.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("listening")), "iperf3 does not listen on {address}");

    let mut command = client.command("iperf3");
    command.args(["--client", address, "--json", "--connect-timeout", "5000"]);
    let output = command.args(["--time", &SECONDS.to_string()]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.unwrap_or_else(|| panic!("iperf3: {}", report["error"])) / 1e9
}
