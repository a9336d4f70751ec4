//! How much TCP goes through a tunnel, beside wireguard-go on the same wire.

pub(crate) mod go;
mod iperf;
pub(crate) mod lab;
mod ours;

use std::process::Command;

use sinfonia_tunnel::PrivateKey;

use crate::figure::{interleaved, median, show};
use lab::{End, Wire};

pub(crate) const FIGURES: [&str; 3] = ["tunnel_vs_wireguard_go", "tunnel_gbit", "tunnel_wireguard_go_gbit"];

/// The bench's own programs, by their first argument.
pub(crate) const INSIDE: &str = "@tunnel";
pub(crate) const OURS: &str = "@tunnel-end";

const ROUNDS: usize = 7;

/// Both tunnels' interface MTU, bytes.
const MTU: u32 = 1420;

/// A tunnel that is up: namespaces to run the two ends of a measurement in.
struct Tunnel {
    client: End,
    server: End,
    /// The server's address in the tunnel.
    address: &'static str,
    name: &'static str,
}

impl Tunnel {
    /// Gbit/s of TCP from client to server.
    fn gbit(&self) -> f64 {
        let gbit = iperf::tcp(&self.client, &self.server, self.address);
        eprintln!("bench: {:.2} Gbit/s through {}", gbit, self.name);
        gbit
    }
}

/// One end of a tunnel between two namespaces.
struct Side {
    key: PrivateKey,
    /// Where it is on the wire.
    outer: &'static str,
    port: u16,
    /// Its address in the tunnel.
    inner: &'static str,
}

/// Measures in namespaces of its own, so that whoever runs this may make interfaces.
pub(crate) fn run() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--net", "--mount", "--kill-child"]);
    let status = unshare.arg(std::env::current_exe().unwrap()).arg(INSIDE).status().unwrap();
    assert!(status.success(), "{unshare:?}: {status}");
}

/// What [`run`] starts.
pub(crate) fn inside() {
    lab::prepare();
    let wire = Wire::new();
    let ours = ours::start(&wire);
    let go = go::start(&wire);
    eprintln!("bench: {ROUNDS} times TCP for {} s through each tunnel", iperf::SECONDS);
    let (ours, go) = interleaved(ROUNDS, || ours.gbit(), || go.gbit());
    let (ours, go) = (median(ours), median(go));
    show(FIGURES[0], ours / go, "ratio");
    show(FIGURES[1], ours, "Gbit/s");
    show(FIGURES[2], go, "Gbit/s");
}

/// What [`ours::start`] starts.
pub(crate) fn end() {
    ours::end();
}
