//! What a tier2 is told to be.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use sinfonia_credentials::TokenSource;
use sinfonia_tls::{TlsFiles, TlsTrust};
use sinfonia_wire::{Host, Network, TunnelEndpoint, TunnelEndpointError};
use url::Url;

use crate::{kubernetes::KubernetesOptions, report_fields::ReportFields};

/// Everything a tier2 can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where backends run.
    pub driver: DriverConfig,
    /// Address of the HTTP API.
    pub host: IpAddr,
    /// TCP port of the HTTP API; 0 for any.
    pub port: u16,
    /// Directory or URL of the recipes.
    pub recipes: String,
    /// The tier1s to report to.
    pub tier1_urls: Vec<Url>,
    /// Where others reach this API.
    pub tier2_url: Option<Url>,
    /// UDP port of the tunnels; 0 for any.
    pub tunnel_port: u16,
    /// Where clients reach the tunnels.
    pub tunnel_endpoint: Option<EndpointOption>,
    /// Where clients get their addresses.
    pub client_networks: Vec<IpNet>,
    /// What survives restarts.
    pub state_directory: PathBuf,
    /// How long a deployment stays after its last request or use.
    pub lease: Duration,
    /// How often idle deployments are looked for.
    pub expiry_interval: Duration,
    /// The most deployments at once.
    pub max_deployments: usize,
    /// The most deployments of one client's address; none for no limit.
    pub max_per_client: Option<usize>,
    /// Whose word counts on whom they ask for: tier1s and reverse proxies.
    pub trusted_proxies: Vec<Network>,
    /// What administrators identify themselves with; none: they are whoever asks from this machine.
    pub admin_token: Option<TokenSource>,
    /// What callers have to present for anything about deployments; none: nobody is asked.
    pub deploy_token: Option<TokenSource>,
    /// What is presented to tier1s with reports.
    pub tier1_token: Option<TokenSource>,
    /// Whether the HTTP API is an HTTPS one.
    pub tls: TlsFiles,
    /// Whose certificates tier1s may have.
    pub trust: TlsTrust,
    /// How long a deployment request waits for the backend.
    pub request_wait: Duration,
    /// How often to report.
    pub report_interval: Duration,
    /// What reports say of the cloudlet.
    pub report: ReportFields,
    /// Whether to announce by mDNS.
    pub zeroconf: bool,
}

/// Where backends run.
#[derive(Debug, Clone)]
pub enum DriverConfig {
    /// As child processes of tier2.
    Local,
    /// On a Kubernetes cluster.
    Kubernetes(Box<KubernetesOptions>),
}

impl Config {
    /// The defaults, with state in this directory.
    #[must_use]
    pub fn new(state_directory: PathBuf) -> Self {
        Self {
            driver: DriverConfig::Local,
            host: Ipv4Addr::LOCALHOST.into(),
            port: 5000,
            recipes: "RECIPES".to_owned(),
            tier1_urls: vec![],
            tier2_url: None,
            tunnel_port: 51820,
            tunnel_endpoint: None,
            client_networks: vec![],
            state_directory,
            lease: Duration::from_secs(300),
            expiry_interval: Duration::from_secs(60),
            max_deployments: 100,
            max_per_client: None,
            trusted_proxies: vec![],
            admin_token: None,
            tls: TlsFiles::default(),
            trust: TlsTrust::default(),
            deploy_token: None,
            tier1_token: None,
            request_wait: Duration::from_secs(25),
            report_interval: Duration::from_secs(15),
            report: ReportFields::default(),
            zeroconf: false,
        }
    }

    /// Where clients are told to send their packets: what was configured, else the host of the tier2 URL, else this
    /// machine's address.
    ///
    /// # Errors
    /// When the host of the tier2 URL cannot be written as an endpoint.
    pub fn endpoint(&self, bound_port: u16) -> Result<TunnelEndpoint, TunnelEndpointError> {
        if let Some(EndpointOption { host, port }) = &self.tunnel_endpoint {
            return TunnelEndpoint::new(host.clone(), port.unwrap_or(bound_port));
        }
        match self.tier2_url.as_ref().and_then(Url::host_str) {
            Some(host) => format!("{host}:{bound_port}").parse(),
            None => TunnelEndpoint::new(own_address(), bound_port),
        }
    }
}

/// `HOST` or `HOST:PORT`, an IPv6 address in brackets or, without a port, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointOption {
    /// Name or address.
    pub host: Host,
    /// UDP port; the tunnel port if absent.
    pub port: Option<u16>,
}

impl FromStr for EndpointOption {
    type Err = TunnelEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let with_port = |text: &str| text.parse::<TunnelEndpoint>();
        let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
        let has_port = !bare_v6 && !text.ends_with(']') && text.contains(':');
        if has_port {
            let endpoint = with_port(text)?;
            return Ok(Self { host: endpoint.host().clone(), port: Some(endpoint.port()) });
        }
        let text = if bare_v6 { format!("[{text}]:1") } else { format!("{text}:1") };
        with_port(&text).map(|endpoint| Self { host: endpoint.host().clone(), port: None })
    }
}

/// The address of the interface with the default route; nothing is sent to find it.
fn own_address() -> IpAddr {
    let documentation = (Ipv4Addr::new(192, 0, 2, 1), 9);
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket.connect(documentation)?;
            socket.local_addr()
        })
        .map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("/s".into())
    }

    #[test]
    fn the_tunnel_endpoint_is_given_or_derived() {
        let told = |option: &str| Config {
            tunnel_endpoint: Some(option.parse().unwrap()),
            tier2_url: Some("http://ignored".parse().unwrap()),
            ..config()
        };
        for (option, endpoint) in [
            ("edge.example.org", "edge.example.org:7"),
            ("edge.example.org:99", "edge.example.org:99"),
            ("198.51.100.2", "198.51.100.2:7"),
            ("2001:db8::2", "[2001:db8::2]:7"),
            ("[2001:db8::2]", "[2001:db8::2]:7"),
            ("[2001:db8::2]:99", "[2001:db8::2]:99"),
        ] {
            assert_eq!(told(option).endpoint(7).unwrap().to_string(), endpoint);
        }
        let derived = Config { tier2_url: Some("https://[2001:db8::2]:5000/x".parse().unwrap()), ..config() };
        assert_eq!(derived.endpoint(7).unwrap().to_string(), "[2001:db8::2]:7");
        assert_eq!(config().endpoint(7).unwrap().port(), 7);
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["", ":1", "host:0", "host:x", "a b", "host:70000"] {
            assert!(text.parse::<EndpointOption>().is_err(), "{text}");
        }
    }
}
