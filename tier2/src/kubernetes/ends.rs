//! Where clients' tunnels end in this cluster, for answers and for the rules around a deployment.

use std::net::IpAddr;

use ipnet::IpNet;
use sinfonia_wire::{PublicKey, TunnelEndpoint};
use url::Url;

use super::{
    failure::Failure,
    tunnel::tunnel_end,
    view::{ClusterView, ClusterWatch},
};

/// The tunnels' end as it is now.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) public_key: PublicKey,
    pub(super) endpoint: TunnelEndpoint,
    pub(super) resolvers: Vec<IpAddr>,
    /// Base URL of our gateway's API, if it is ours.
    pub(super) gateway: Option<Url>,
    /// Addresses that clients' traffic may come from after it was masqueraded.
    pub(super) sources: Vec<IpNet>,
}

/// Looks for the tunnels' end.
#[derive(Clone)]
pub(super) struct Ends(ClusterWatch);

impl Ends {
    pub(super) const fn new(watch: ClusterWatch) -> Self {
        Self(watch)
    }

    /// # Errors
    /// When the cluster cannot be asked or has no end for tunnels.
    pub(super) async fn current(&self) -> Result<End, Failure> {
        let view =
            self.0.look_or_remember().await.map_err(|error| Failure::new("cluster-unreachable", error.to_string()))?;
        let end = tunnel_end(&view).map_err(|error| Failure::new("no-tunnel", error.to_string()))?;
        let resolver = view.resolver.ok_or_else(|| {
            Failure::new("no-tunnel", "the cluster has no service kube-dns in namespace kube-system for clients' names")
        })?;
        Ok(End {
            sources: sources(&view, &end.node),
            public_key: end.public_key,
            endpoint: end.endpoint,
            gateway: end.gateway,
            resolvers: vec![resolver],
        })
    }
}

/// The node's addresses, and the first two of its pod networks: which of them masquerading takes is the network
/// plug-in's choice (bridges have the first host address, overlays often the network's own).
fn sources(view: &ClusterView, node: &str) -> Vec<IpNet> {
    let Some(node) = view.nodes.iter().find(|facts| facts.name == node) else { return vec![] };
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
    node.address.into_iter().map(IpNet::from).chain(first_two).collect()
}
