//! What a gateway is told.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use ipnet::IpNet;

/// Which implementation of WireGuard ends the tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WireGuard {
    /// The kernel's where it has one, else this program's own.
    Auto,
    /// The kernel's.
    Kernel,
    /// This program's own.
    Userspace,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the HTTP API; the node's own if there is none.
    pub host: Option<IpAddr>,
    /// TCP port of the HTTP API.
    pub port: u16,
    /// UDP port of the tunnels.
    pub tunnel_port: u16,
    /// Where clients reach the tunnels, if not at the node's address.
    pub endpoint: Option<String>,
    /// Networks of clients' addresses.
    pub client_networks: Vec<IpNet>,
    /// Name of the tunnels' interface.
    pub interface: String,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Name of the node this runs on.
    pub node: String,
    /// Namespace this runs in, of the secret with its key.
    pub namespace: String,
    /// Where clients' endpoints are kept.
    pub state_directory: PathBuf,
    /// Which WireGuard.
    pub wireguard: WireGuard,
    /// How to reach the cluster, if not as a pod in it.
    pub kubeconfig: Option<PathBuf>,
}
