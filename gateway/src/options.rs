//! The command line; every option can also be given as `SINFONIA_<NAME>`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use sinfonia_tunnel::DEFAULT_MTU;

use crate::cluster::is_endpoint;
use crate::config::{Config, WireGuard};

/// Ends clients' tunnels in a cluster that has no Kilo.
#[derive(Debug, Parser)]
#[command(name = "sinfonia-gateway", version)]
pub struct Options {
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address of the HTTP API [default: the node's address in the cluster].
    #[arg(long, env = "SINFONIA_HOST")]
    host: Option<IpAddr>,

    /// TCP port of the HTTP API: health, metrics, what clients can reach.
    #[arg(long, env = "SINFONIA_PORT", default_value_t = 51821)]
    port: u16,

    /// UDP port of the tunnels.
    #[arg(long, env = "SINFONIA_TUNNEL_PORT", default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..))]
    tunnel_port: u16,

    /// Where clients reach the tunnels [default: the node's annotation kilo.squat.ai/force-endpoint, else its external
    /// or internal address; the port of --tunnel-port].
    #[arg(long, env = "SINFONIA_ENDPOINT", value_name = "HOST[:PORT]", value_parser = endpoint)]
    endpoint: Option<String>,

    /// Networks that clients get their addresses from.
    #[arg(
        long,
        env = "SINFONIA_CLIENT_NETWORK",
        value_name = "NETWORK",
        value_delimiter = ',',
        default_value = "10.5.0.0/16"
    )]
    client_network: Vec<IpNet>,

    /// Name of the tunnels' network interface.
    #[arg(long, env = "SINFONIA_INTERFACE", default_value = "sinfonia")]
    interface: String,

    /// MTU of the tunnels in bytes.
    #[arg(long, env = "SINFONIA_MTU", default_value_t = DEFAULT_MTU, value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    mtu: u32,

    /// Name of the node that this runs on.
    #[arg(long, env = "SINFONIA_NODE")]
    node: String,

    /// Namespace that this runs in; the secret sinfonia-gateway there holds the key.
    #[arg(long, env = "SINFONIA_NAMESPACE", default_value = "sinfonia")]
    namespace: String,

    /// Where is kept at what address clients were seen, so that a restart finds them.
    #[arg(long, env = "SINFONIA_STATE_DIRECTORY", value_name = "DIR", default_value = "/var/lib/sinfonia-gateway")]
    state_directory: PathBuf,

    /// Which WireGuard ends the tunnels.
    #[arg(long, env = "SINFONIA_WIREGUARD", value_enum, default_value_t = WireGuard::Auto)]
    wireguard: WireGuard,

    /// Configuration file for the cluster's API [default: as a pod in the cluster].
    #[arg(long, env = "SINFONIA_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// What a gateway can do beside serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Removes what a gateway leaves on its node when it ends, so that the next one goes on: interface, packet filter
    /// rules, annotations, label. Waits for the end of one that runs. The options of serving come before it.
    Remove {
        /// There is to be none any more: fails if it was on another node last, which then announces it no more.
        #[arg(long)]
        last: bool,
    },
}

impl Options {
    /// The configuration they mean.
    #[must_use]
    pub fn into_config(self) -> Config {
        Config {
            host: self.host,
            port: self.port,
            tunnel_port: self.tunnel_port,
            endpoint: self.endpoint,
            client_networks: self.client_network.iter().map(IpNet::trunc).collect(),
            interface: self.interface,
            mtu: self.mtu,
            node: self.node,
            namespace: self.namespace,
            state_directory: self.state_directory,
            wireguard: self.wireguard,
            kubeconfig: self.kubeconfig,
        }
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    if is_endpoint(text) {
        Ok(text.into())
    } else {
        Err("expected a host name or address, with or without a port, as gw.example.org:51820".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let program = ["sinfonia-gateway", "--node", "n"];
        let options = Options::try_parse_from(program.iter().chain(arguments));
        options.map(Options::into_config).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.port, config.tunnel_port, config.mtu), (51821, 51820, 1420));
        assert_eq!(config.client_networks, ["10.5.0.0/16".parse().unwrap()]);
        assert_eq!((config.interface.as_str(), config.namespace.as_str()), ("sinfonia", "sinfonia"));
    }

    #[test]
    fn bad_values_are_refused_with_the_option_named() {
        for arguments in [
            ["--endpoint", "a b"],
            ["--client-network", "10.5.0.0/33"],
            ["--mtu", "1000"],
            ["--tunnel-port", "0"],
            ["--wireguard", "maybe"],
        ] {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(arguments[0]), "{error}");
        }
        assert!(Options::try_parse_from(["sinfonia-gateway"]).unwrap_err().to_string().contains("--node"));
    }

    #[test]
    fn it_serves_unless_told_otherwise() {
        let command = |arguments: &[&str]| {
            Options::try_parse_from(["sinfonia-gateway", "--node", "n"].iter().chain(arguments)).unwrap().command
        };
        assert_eq!((command(&[]), command(&["remove"])), (None, Some(Command::Remove { last: false })));
        assert_eq!(command(&["remove", "--last"]), Some(Command::Remove { last: true }));
    }

    #[test]
    fn several_client_networks() {
        let networks = parse(&["--client-network", "10.6.1.1/16,fd05::/64"]).unwrap().client_networks;
        assert_eq!(networks, ["10.6.0.0/16".parse::<IpNet>().unwrap(), "fd05::/64".parse().unwrap()]);
    }
}
