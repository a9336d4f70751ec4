//! One client's tunnel, checked: a [`TunnelConfig`] from a cloudlet and the private key it was made for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use sinfonia_wire::{DomainName, PublicKey, TunnelConfig, TunnelEndpoint};
use zeroize::Zeroizing;

use crate::PrivateKey;
use crate::plan::{NetworkPlan, Step};

/// How often an idle client shows that it is there; the cloudlet's lease counts on it.
pub const CLIENT_KEEPALIVE: Duration = Duration::from_secs(30);

/// WireGuard's usual interface MTU, bytes: Ethernet's 1500 less 40 IPv6, 8 UDP and 32 WireGuard.
pub const DEFAULT_MTU: u32 = 1420;

/// The most entries that a field may have: each costs a step in the namespace or a line for the resolver.
const MOST: usize = 256;

/// A tunnel that can be built as it stands.
#[derive(Clone)]
pub struct Config {
    private_key: PrivateKey,
    peer: PublicKey,
    endpoint: TunnelEndpoint,
    allowed_ips: Vec<IpNet>,
    addresses: Vec<IpNet>,
    nameservers: Vec<IpAddr>,
    search: Vec<DomainName>,
}

/// A cloudlet's tunnel configuration that no tunnel can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There must be an address to send from.
    #[error("the cloudlet's tunnel configuration has no client address")]
    NoAddress,
    /// There must be somewhere to send to.
    #[error("the cloudlet's tunnel configuration allows no destination (allowedIPs is empty)")]
    NoAllowedIps,
    /// More entries than any real tunnel has.
    #[error("the cloudlet's tunnel configuration has {count} entries in {field}, more than {MOST}")]
    TooMany {
        /// The field's name on the wire.
        field: &'static str,
        /// How many there are.
        count: usize,
    },
    /// Nobody can be at this address.
    #[error("the cloudlet's tunnel endpoint {0} is not the address of a host")]
    Endpoint(TunnelEndpoint),
    /// No host can have this address.
    #[error("the client address {0} in the cloudlet's tunnel configuration is not the address of a host")]
    Address(IpNet),
    /// Both ends cannot have the same key.
    #[error("the cloudlet's tunnel key {0} is this client's own")]
    OwnKey(PublicKey),
}

impl Config {
    /// Checks what a cloudlet answered.
    ///
    /// # Errors
    /// [`ConfigError`] says what is missing or wrong in the cloudlet's answer.
    pub fn new(tunnel: TunnelConfig, private_key: PrivateKey) -> Result<Self, ConfigError> {
        if tunnel.address.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        if tunnel.allowed_ips.is_empty() {
            return Err(ConfigError::NoAllowedIps);
        }
        let counts = [
            ("address", tunnel.address.len()),
            ("allowedIPs", tunnel.allowed_ips.len()),
            ("dns", tunnel.dns.servers.len() + tunnel.dns.search.len()),
        ];
        if let Some((field, count)) = counts.into_iter().find(|(_, count)| *count > MOST) {
            return Err(ConfigError::TooMany { field, count });
        }
        if tunnel.endpoint.socket_addr().is_some_and(|endpoint| !is_host(endpoint.ip())) {
            return Err(ConfigError::Endpoint(tunnel.endpoint));
        }
        if let Some(address) = tunnel.address.iter().find(|address| !is_host(address.addr())) {
            return Err(ConfigError::Address(*address));
        }
        if tunnel.public_key == private_key.public_key() {
            return Err(ConfigError::OwnKey(tunnel.public_key));
        }
        Ok(Self {
            private_key,
            peer: tunnel.public_key,
            endpoint: tunnel.endpoint,
            allowed_ips: each_once(tunnel.allowed_ips.iter().map(IpNet::trunc).collect()),
            addresses: each_once(tunnel.address),
            nameservers: tunnel.dns.servers,
            search: tunnel.dns.search,
        })
    }

    /// The key of this end.
    #[must_use]
    pub fn private_key(&self) -> &PrivateKey {
        &self.private_key
    }

    /// The key of the cloudlet's end.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Where the cloudlet's end listens, by name or address.
    #[must_use]
    pub fn endpoint(&self) -> &TunnelEndpoint {
        &self.endpoint
    }

    /// What may be sent through the tunnel, and come out of it.
    #[must_use]
    pub fn allowed_ips(&self) -> &[IpNet] {
        &self.allowed_ips
    }

    /// The addresses of this end inside the tunnel.
    #[must_use]
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// What makes a namespace use this tunnel for everything, with an interface MTU in bytes.
    #[must_use]
    pub fn plan(&self, mtu: u32) -> NetworkPlan {
        let mut steps = vec![Step::LoopbackUp, Step::Mtu(mtu)];
        steps.extend(self.addresses.iter().copied().map(Step::Address));
        steps.push(Step::LinkUp);
        let further = self.allowed_ips.iter().filter(|network| !self.is_on_link(network));
        steps.extend(further.map(|network| Step::Route(*network)));
        // Without name servers too: the host's cannot be meant, whose addresses are others' in the tunnel.
        steps.push(Step::ResolvConf(self.resolv_conf()));
        NetworkPlan { steps }
    }

    /// Whether the kernel routes this network through the tunnel by itself, because an address is in it.
    fn is_on_link(&self, network: &IpNet) -> bool {
        network.prefix_len() < network.max_prefix_len()
            && self.addresses.iter().any(|address| address.trunc() == *network)
    }

    /// The tunnel's resolver configuration, as resolv.conf(5).
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        let mut text = String::new();
        if self.nameservers.is_empty() {
            text.push_str("# The cloudlet has no name server.\n");
        }
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let search: Vec<String> = self.search.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "search {}", search.join(" "));
        }
        text.push_str("options ndots:5\n");
        text
    }

    /// The tunnel as wg-quick(8) reads it, the private key included. `interface` lines are added to its section.
    #[must_use]
    pub fn to_wg_quick(&self, interface: &[(&str, &str)]) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let key = self.private_key.to_base64();
        let dns: Vec<String> = self
            .nameservers
            .iter()
            .map(ToString::to_string)
            .chain(self.search.iter().map(ToString::to_string))
            .collect();
        let _ = writeln!(text, "[Interface]\nPrivateKey = {}\nAddress = {}", *key, list(&self.addresses));
        if !dns.is_empty() {
            let _ = writeln!(text, "DNS = {}", dns.join(", "));
        }
        for (name, value) in interface {
            let _ = writeln!(text, "{name} = {value}");
        }
        let _ = writeln!(
            text,
            "\n[Peer]\nPublicKey = {}\nAllowedIPs = {}\nEndpoint = {}\nPersistentKeepalive = {}",
            self.peer,
            list(&self.allowed_ips),
            self.endpoint,
            CLIENT_KEEPALIVE.as_secs(),
        );
        text
    }
}

fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// The kernel refuses what it has already.
fn each_once(networks: Vec<IpNet>) -> Vec<IpNet> {
    let mut seen = BTreeSet::new();
    networks.into_iter().filter(|network| seen.insert(*network)).collect()
}

fn list(networks: &[IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel() -> serde_json::Value {
        serde_json::json!({
            "publicKey": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
            "allowedIPs": ["0.0.0.0/0"],
            "endpoint": "198.51.100.2:51820",
            "address": ["10.5.8.210"],
            "dns": ["10.96.0.10", "vertical-module.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        })
    }

    fn config(tunnel: serde_json::Value) -> Result<Config, ConfigError> {
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        Config::new(serde_json::from_value(tunnel).unwrap(), key)
    }

    #[test]
    fn wg_quick_text() {
        let text = config(tunnel()).unwrap().to_wg_quick(&[("IncludedApplications", "edu.cmu.cs.openrtist")]);
        assert_eq!(
            *text,
            "[Interface]\n\
             PrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n\
             Address = 10.5.8.210/32\n\
             DNS = 10.96.0.10, vertical-module.svc.cluster.local, svc.cluster.local, cluster.local\n\
             IncludedApplications = edu.cmu.cs.openrtist\n\
             \n\
             [Peer]\n\
             PublicKey = Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=\n\
             AllowedIPs = 0.0.0.0/0\n\
             Endpoint = 198.51.100.2:51820\n\
             PersistentKeepalive = 30\n"
        );
    }

    #[test]
    fn the_plan_of_a_client() {
        let plan = config(tunnel()).unwrap().plan(1420);
        assert_eq!(
            plan.steps,
            [
                Step::LoopbackUp,
                Step::Mtu(1420),
                Step::Address("10.5.8.210/32".parse().unwrap()),
                Step::LinkUp,
                Step::Route("0.0.0.0/0".parse().unwrap()),
                Step::ResolvConf(
                    "nameserver 10.96.0.10\n\
                     search vertical-module.svc.cluster.local svc.cluster.local cluster.local\n\
                     options ndots:5\n"
                        .into()
                ),
            ]
        );
    }

    #[test]
    fn what_is_there_twice_is_done_once() {
        let mut twice = tunnel();
        twice["address"] = serde_json::json!(["10.5.8.210", "10.5.8.210/32"]);
        twice["allowedIPs"] = serde_json::json!(["0.0.0.0/0", "0.0.0.0/0"]);
        assert_eq!(config(twice).unwrap().plan(1420), config(tunnel()).unwrap().plan(1420));
    }

    #[test]
    fn without_a_name_server_there_is_none_of_the_host() {
        let mut alone = tunnel();
        alone["dns"] = serde_json::json!([]);
        let steps = config(alone).unwrap().plan(1420).steps;
        let expected = "# The cloudlet has no name server.\noptions ndots:5\n";
        assert_eq!(steps.last(), Some(&Step::ResolvConf(expected.into())));
    }

    #[test]
    fn the_network_of_an_address_is_not_routed_twice() {
        let mut wide = tunnel();
        wide["address"] = serde_json::json!(["10.5.8.210/16", "fd05::2/64", "10.6.0.1"]);
        wide["allowedIPs"] = serde_json::json!(["10.5.0.0/16", "fd05::/64", "10.6.0.1/32", "10.5.8.0/24"]);
        let steps = config(wide).unwrap().plan(1420).steps;
        let routes = steps.iter().filter(|step| matches!(step, Step::Route(_)));
        let route = |network: &str| Step::Route(network.parse().unwrap());
        assert!(routes.eq(&[route("10.6.0.1/32"), route("10.5.8.0/24")]), "{steps:?}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = |pointer: &str, value: serde_json::Value| {
            let mut tunnel = tunnel();
            tunnel[pointer] = value;
            config(tunnel).err()
        };
        assert_eq!(refused("address", serde_json::json!([])), Some(ConfigError::NoAddress));
        assert_eq!(refused("allowedIPs", serde_json::json!([])), Some(ConfigError::NoAllowedIps));
        for endpoint in ["0.0.0.0:1", "[::]:9", "224.0.0.1:9", "255.255.255.255:9"] {
            assert_eq!(refused("endpoint", endpoint.into()), Some(ConfigError::Endpoint(endpoint.parse().unwrap())));
        }
        assert!(matches!(refused("address", serde_json::json!(["0.0.0.0"])), Some(ConfigError::Address(_))));
        let many: Vec<_> = (0..300).map(|number| format!("10.{}.{}.0/24", number / 256, number % 256)).collect();
        let too_many = ConfigError::TooMany { field: "allowedIPs", count: 300 };
        assert_eq!(refused("allowedIPs", many.into()), Some(too_many));
        let own = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        assert_eq!(refused("publicKey", own.into()), Some(ConfigError::OwnKey(own.parse().unwrap())));
    }
}
