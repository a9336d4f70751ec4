//! Whether the whole cluster can serve clients. Until it can, tier1 is told nothing, so that a cluster which is still
//! coming up gets no clients.

use thiserror::Error;

use super::{
    fetch::Server,
    tunnel::{NoTunnelEnd, TunnelEnd, tunnel_end},
    view::{ClusterView, ClusterWatch, ViewError},
};

/// What the cluster lacks.
#[derive(Debug, Clone, Error)]
pub enum Missing {
    /// It cannot be looked at.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Too few nodes.
    #[error("{ready} of {all} nodes are Ready; at least half of them have to be")]
    Nodes {
        /// Ready ones.
        ready: usize,
        /// All.
        all: usize,
    },
    /// No room for pods.
    #[error("none of the Ready nodes takes new pods: all are cordoned")]
    Schedulable,
    /// Without it, no name resolves.
    #[error("the cluster has no service kube-dns in namespace kube-system, which clients need as their resolver")]
    NoResolver,
    /// It has no pod yet.
    #[error("the resolver (service kube-dns in namespace kube-system) has no ready pod")]
    Resolver,
    /// No gateway.
    #[error(transparent)]
    Tunnel(#[from] NoTunnelEnd),
    /// A gateway on a node that is gone.
    #[error("node {0}, which ends the clients' tunnels, is not Ready")]
    TunnelNode(String),
    /// The gateway says no, or nothing.
    #[error("the gateway is not ready: {0}")]
    Gateway(String),
}

/// What the cluster lacks, as far as its objects tell; else where tunnels end.
///
/// # Errors
/// See [`Missing`].
pub fn missing(view: &ClusterView) -> Result<TunnelEnd, Missing> {
    let ready = view.nodes.iter().filter(|node| node.ready).count();
    let all = view.nodes.len();
    if ready == 0 || ready * 2 < all {
        return Err(Missing::Nodes { ready, all });
    }
    if !view.nodes.iter().any(|node| node.ready && node.schedulable) {
        return Err(Missing::Schedulable);
    }
    if view.resolver.is_none() {
        return Err(Missing::NoResolver);
    }
    if !view.dns_ready {
        return Err(Missing::Resolver);
    }
    let end = tunnel_end(view)?;
    if end.ready { Ok(end) } else { Err(Missing::TunnelNode(end.node)) }
}

/// Asks whether the cluster can serve clients.
#[derive(Clone)]
pub struct ClusterReadiness {
    watch: ClusterWatch,
}

impl ClusterReadiness {
    /// Decides by what `watch` sees.
    #[must_use]
    pub const fn new(watch: ClusterWatch) -> Self {
        Self { watch }
    }

    /// Where tunnels end, if all is ready. A gateway of ours is asked itself.
    ///
    /// # Errors
    /// What is missing.
    pub async fn check(&self) -> Result<TunnelEnd, Missing> {
        let end = missing(&*self.watch.look().await?)?;
        if let Some(gateway) = &end.gateway {
            let asked = async { Server::at(gateway, "the gateway")?.get("/readyz").await };
            asked.await.map_err(|error| Missing::Gateway(error.to_string()))?;
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::view::{NodeFacts, tests::node};

    fn view() -> ClusterView {
        let end =
            NodeFacts { key: Some([7; 32].into()), endpoint: Some("192.0.2.1:51820".parse().unwrap()), ..node("a") };
        let resolver = Some([10, 96, 0, 10].into());
        ClusterView { nodes: vec![end, node("b")], resolver, dns_ready: true, ..ClusterView::default() }
    }

    fn sentence(change: impl FnOnce(&mut ClusterView)) -> String {
        let mut view = view();
        change(&mut view);
        missing(&view).map_or_else(|missing| missing.to_string(), |end| end.node)
    }

    #[test]
    fn each_lack_has_its_sentence() {
        assert_eq!(sentence(|_| ()), "a");
        assert_eq!(sentence(|view| view.nodes[1].ready = false), "a", "half is enough");
        let unready = |view: &mut ClusterView| {
            view.nodes.extend([node("c"), node("d"), node("e")].map(|node| NodeFacts { ready: false, ..node }))
        };
        assert!(sentence(unready).starts_with("2 of 5 nodes are Ready"));
        assert!(sentence(|view| view.nodes.clear()).starts_with("0 of 0 nodes"));
        let cordon = |view: &mut ClusterView| view.nodes.iter_mut().for_each(|node| node.schedulable = false);
        assert!(sentence(cordon).contains("cordoned"));
        let cordoned_or_broken = |view: &mut ClusterView| {
            view.nodes[0].schedulable = false;
            view.nodes[1].ready = false;
        };
        assert!(sentence(cordoned_or_broken).contains("cordoned"));
        assert!(sentence(|view| view.resolver = None).contains("no service kube-dns"));
        assert!(sentence(|view| view.dns_ready = false).contains("no ready pod"));
        assert!(sentence(|view| view.nodes[0].key = None).contains("install sinfonia-gateway"));
        assert_eq!(
            sentence(|view| view.nodes[0].ready = false),
            "node a, which ends the clients' tunnels, is not Ready"
        );
    }
}
