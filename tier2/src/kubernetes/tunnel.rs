//! Where clients' tunnels end: found by the annotations that our gateway, or Kilo, puts on its node.

use sinfonia_wire::{PublicKey, TunnelEndpoint};
use thiserror::Error;
use url::Url;

use super::view::{ClusterView, NodeFacts};

/// The end of the clients' tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Its public key.
    pub public_key: PublicKey,
    /// Where packets are sent to.
    pub endpoint: TunnelEndpoint,
    /// The base URL of our gateway's HTTP API; none if it is Kilo.
    pub gateway: Option<Url>,
    /// The node.
    pub node: String,
    /// Whether the node is Ready.
    pub ready: bool,
}

/// There is no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "no node has the annotations kilo.squat.ai/key and kilo.squat.ai/endpoint: install sinfonia-gateway, or Kilo, and \
     look at its logs"
)]
pub struct NoTunnelEnd;

/// The node that ends tunnels. A Ready node comes before another, our gateway before Kilo, the leader of a Kilo location
/// before its other nodes; the name decides the rest, so that everybody finds the same.
///
/// # Errors
/// When no node ends tunnels.
pub fn tunnel_end(view: &ClusterView) -> Result<TunnelEnd, NoTunnelEnd> {
    let rank = |node: &&NodeFacts| (!node.ready, node.gateway.is_none(), !node.kilo_leader, node.name.clone());
    let ends = view.nodes.iter().filter(|node| node.key.is_some() && node.endpoint.is_some());
    let node = ends.min_by_key(rank).ok_or(NoTunnelEnd)?;
    let (Some(public_key), Some(endpoint)) = (node.key, node.endpoint.clone()) else { return Err(NoTunnelEnd) };
    Ok(TunnelEnd { public_key, endpoint, gateway: node.gateway.clone(), node: node.name.clone(), ready: node.ready })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::view::tests::node;

    fn found(nodes: Vec<NodeFacts>) -> Option<String> {
        tunnel_end(&ClusterView { nodes, ..ClusterView::default() }).ok().map(|end| end.node)
    }

    fn kilo(name: &str) -> NodeFacts {
        NodeFacts { key: Some([7; 32].into()), endpoint: Some("192.0.2.1:51820".parse().unwrap()), ..node(name) }
    }

    #[test]
    fn ours_comes_before_the_leader_before_the_others() {
        let leader = NodeFacts { kilo_leader: true, ..kilo("c") };
        let ours = NodeFacts { gateway: Some("http://192.0.2.4:51821".parse().unwrap()), ..kilo("d") };
        assert_eq!(found(vec![]), None);
        assert_eq!(found(vec![node("a")]), None);
        assert_eq!(found(vec![node("a"), kilo("b"), kilo("a2")]).unwrap(), "a2");
        assert_eq!(found(vec![kilo("b"), leader.clone()]).unwrap(), "c");
        assert_eq!(found(vec![kilo("b"), leader.clone(), ours.clone()]).unwrap(), "d");
        let broken = NodeFacts { ready: false, ..ours };
        assert_eq!(found(vec![kilo("b"), leader, broken.clone()]).unwrap(), "c", "annotations of a dead node stay");
        assert_eq!(found(vec![node("a"), broken]).unwrap(), "d");
    }

    #[test]
    fn half_an_end_is_none() {
        assert_eq!(found(vec![NodeFacts { key: None, ..kilo("a") }, NodeFacts { endpoint: None, ..kilo("b") }]), None);
    }
}
