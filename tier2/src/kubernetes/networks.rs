//! The networks that deployments' NetworkPolicies are made of, from what is known of the cluster.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::view::{ClusterView, NodeFacts};

#[cfg(test)]
mod tests;

/// The most networks of a family that backends are kept from: every policy lists them, and a cluster may have thousands
/// of nodes.
const MOST: usize = 64;

/// Private, shared, link-local and loopback networks (RFC 6890), which are no part of the internet.
pub(super) const NOT_PUBLIC_V4: [Ipv4Net; 6] = [
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// All that is public of IPv6.
pub(super) const PUBLIC_V6: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What a deployment's NetworkPolicy depends on, beside its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Networks {
    /// Addresses that clients' traffic may come from after it was masqueraded, and tier2's trials of the services.
    pub(super) sources: Vec<IpNet>,
    /// The namespace of tier2's pods, if they try the services.
    pub(super) trying: Option<String>,
    /// The cluster's own public networks. To backends they are no part of the internet.
    pub(super) cluster: Vec<IpNet>,
}

impl Networks {
    /// Those of a cluster in which clients' traffic comes from this node.
    pub(super) fn around(view: &ClusterView, node: &str) -> Self {
        let end = view.nodes.iter().find(|facts| facts.name == node);
        Self { sources: end.map(sources).unwrap_or_default(), trying: None, cluster: own_public(view) }
    }

    /// Lets in who tries the services from a host with this address.
    pub(super) fn let_in(&mut self, view: &ClusterView, host: IpAddr) {
        let node = view.nodes.iter().find(|node| node.addresses.contains(&host));
        for source in node.map_or_else(|| vec![host.into()], sources) {
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
        }
    }
}

/// The node's addresses, and the first two of its pod networks: which of them masquerading takes is the network
/// plug-in's choice (bridges have the first host address, overlays often the network's own).
fn sources(node: &NodeFacts) -> Vec<IpNet> {
    let first_two = node.pod_networks.iter().flat_map(|network| match network {
        IpNet::V4(network) => {
            let base = u32::from(network.network());
            [base, base + 1].map(|number| IpNet::from(IpAddr::V4(number.into())))
        }
        IpNet::V6(network) => {
            let base = u128::from(network.network());
            [base, base + 1].map(|number| IpNet::from(IpAddr::V6(number.into())))
        }
    });
    node.addresses.iter().copied().map(IpNet::from).chain(first_two).collect()
}

/// Where nodes, pods, services and API servers are, as far as that is public, in few networks.
fn own_public(view: &ClusterView) -> Vec<IpNet> {
    let nodes = view.nodes.iter();
    let addresses = nodes.clone().flat_map(|node| node.addresses.iter().chain(&node.external_addresses));
    let addresses = addresses.chain(&view.api_servers).chain(&view.resolver).copied().map(IpNet::from);
    let networks = nodes.flat_map(|node| &node.pod_networks).chain(&view.service_networks).copied();
    let public: Vec<IpNet> = addresses.chain(networks).filter(is_public).collect();
    let (v4, v6): (Vec<_>, Vec<_>) =
        IpNet::aggregate(&public).into_iter().partition(|network| network.addr().is_ipv4());
    [few(v4, MOST), few(v6, MOST)].concat()
}

/// Whether some of it is public; all there is cannot be excepted.
fn is_public(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => {
            network.prefix_len() > 0 && !NOT_PUBLIC_V4.iter().any(|private| private.contains(network))
        }
        IpNet::V6(network) => *network != PUBLIC_V6 && PUBLIC_V6.contains(network),
    }
}

/// At most so many networks that hold all of these, which are sorted and apart. Those that are nearest to each other are
/// taken together, with what lies between them.
fn few(networks: Vec<IpNet>, most: usize) -> Vec<IpNet> {
    let Some(excess) = networks.len().checked_sub(most + 1) else { return networks };
    let mut shared: Vec<u8> = networks.windows(2).map(|pair| shared_bits(pair[0], pair[1])).collect();
    shared.sort_unstable_by(|a, b| b.cmp(a));
    let nearest = shared[excess];
    let mut few: Vec<IpNet> = vec![];
    for network in networks {
        match few.last_mut() {
            Some(last) if shared_bits(*last, network) >= nearest => *last = common(*last, network).unwrap_or(*last),
            _ => few.push(network),
        }
    }
    few
}

fn shared_bits(a: IpNet, b: IpNet) -> u8 {
    common(a, b).map_or(0, |common| common.prefix_len())
}

/// The smallest network that holds both.
fn common(a: IpNet, b: IpNet) -> Option<IpNet> {
    std::iter::successors(Some(a), IpNet::supernet).find(|network| network.contains(&b))
}
