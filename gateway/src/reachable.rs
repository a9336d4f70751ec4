//! Whether a client can use its deployment now: asked by tier2 before it tells the client to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use sinfonia_wire::PublicKey;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::{ClusterPod, within};
use crate::plan::{Plan, TunnelPeer};

/// Longest wait for one connection; it is to a pod of this cluster.
const CONNECT: Duration = Duration::from_secs(1);
/// Pauses between attempts grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What is known of a client's way to its deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reachability {
    /// Everything answers.
    Reachable,
    /// Something does not, and what: the rest of a sentence.
    Unreachable(String),
    /// There is no such peer.
    Unknown,
}

/// Finds out.
#[derive(Clone)]
pub(crate) struct Prober {
    client: Client,
    applied: watch::Receiver<Arc<Plan>>,
}

impl Prober {
    /// A prober of what is in force.
    #[must_use]
    pub(crate) fn new(client: Client, applied: watch::Receiver<Arc<Plan>>) -> Self {
        Self { client, applied }
    }

    /// Tries until the deployment of `key` can be reached, or for `wait` in vain.
    pub(crate) async fn probe(&self, key: &PublicKey, wait: Duration) -> Reachability {
        let deadline = Instant::now() + wait;
        let mut applied = self.applied.clone();
        let (mut pause, longest) = PAUSES;
        loop {
            let plan = applied.borrow_and_update().clone();
            let found = self.attempt(&plan, key).await;
            let retry = Instant::now() + pause;
            if found == Reachability::Reachable || retry >= deadline {
                return found;
            }
            // A change of what is in force may be all that is missing.
            if matches!(timeout_at(retry, applied.changed()).await, Ok(Err(_))) {
                return found;
            }
            pause = (2 * pause).min(longest);
        }
    }

    async fn attempt(&self, plan: &Plan, key: &PublicKey) -> Reachability {
        let Some(peer) = plan.peers.get(key) else {
            let refused = plan.refused.values().find(|refused| refused.key == Some(*key));
            return refused.map_or(Reachability::Unknown, |refused| {
                Reachability::Unreachable(format!("the client's peer is not served: {}", refused.refusal))
            });
        };
        match self.obstacle(plan, peer).await {
            None => Reachability::Reachable,
            Some(obstacle) => Reachability::Unreachable(obstacle),
        }
    }

    /// What is in the way, by what the API server says now: the gateway's own copy may lag behind.
    async fn obstacle(&self, plan: &Plan, peer: &TunnelPeer) -> Option<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &peer.name);
        let services: Api<Service> = Api::namespaced(self.client.clone(), &peer.name);
        let everything = ListParams::default();
        let (pods, services) = tokio::join!(
            within("list the deployment's pods", pods.list(&everything)),
            within("list the deployment's services", services.list(&everything)),
        );
        let (pods, services) = match (pods, services) {
            (Ok(pods), Ok(services)) => (pods.items, services.items),
            (Err(error), _) | (_, Err(error)) => return Some(format!("the gateway {error}")),
        };
        if let Some(pod) = pods.iter().find(|pod| !is_covered(pod, peer, plan)) {
            return Some(format!("the gateway's rules do not cover the pod {} yet", pod.name_any()));
        }
        let attempts = services.iter().flat_map(|service| targets(service, &pods)).map(Target::connect);
        join_all(attempts).await.into_iter().flatten().next()
    }
}

/// Whether the rules let the client reach each address of a pod, of the families that it has itself.
fn is_covered(pod: &Pod, peer: &TunnelPeer, plan: &Plan) -> bool {
    let addresses = ClusterPod::read(pod).map(|pod| pod.addresses).unwrap_or_default();
    addresses.iter().all(|address| {
        let mut clients = peer.addresses.iter().map(ipnet::IpNet::addr);
        clients.all(|client| client.is_ipv4() != address.is_ipv4() || plan.access.pairs.contains(&(client, *address)))
    })
}

/// A TCP port of a service.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    service: String,
    address: SocketAddr,
}

impl Target {
    /// What is wrong with it, if anything is.
    async fn connect(self) -> Option<String> {
        let Self { service, address } = self;
        let port = address.port();
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                Some(format!("the service {service} does not accept connections on port {port}: {error}"))
            }
            Err(_) => Some(format!("the service {service} does not answer on port {port}")),
        }
    }
}

/// The TCP ports of a service that stands for any of these pods. Others may never answer, and nobody expects them to.
fn targets(service: &Service, pods: &[Pod]) -> Vec<Target> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
    let is_backed = selector.is_some_and(|selector| {
        pods.iter().any(|pod| ClusterPod::is_of_cluster_network(pod) && is_selected(pod, selector))
    });
    let address = spec.cluster_ip.as_deref().and_then(|address| address.parse::<IpAddr>().ok());
    let Some(address) = address.filter(|_| is_backed) else {
        return Vec::new();
    };
    let ports = spec.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let ports = ports.filter_map(|port| u16::try_from(port.port).ok());
    ports.map(|port| Target { service: service.name_any(), address: (address, port).into() }).collect()
}

fn is_selected(pod: &Pod, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| pod.labels().get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(app: &str) -> Pod {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": app}},
            "spec": {"containers": [], "nodeName": "w"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
    }

    fn of(spec: Value) -> Vec<String> {
        let targets = targets(&service(spec), &[pod("web")]);
        targets.into_iter().map(|target| target.address.to_string()).collect()
    }

    #[test]
    fn only_services_that_should_answer_are_asked() {
        let ports = json!([{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 443, "protocol": "TCP"}]);
        let spec = json!({"clusterIP": "10.96.0.7", "selector": {"app": "web"}, "ports": ports});
        assert_eq!(of(spec.clone()), ["10.96.0.7:80", "10.96.0.7:443"]);
        let starting = Pod { status: None, ..pod("web") };
        assert_eq!(targets(&service(spec.clone()), &[starting]).len(), 2, "also while its pods have no address yet");
        for (field, value) in [
            ("clusterIP", json!("None")),
            ("clusterIP", json!(null)),
            ("selector", json!(null)),
            ("selector", json!({})),
            ("selector", json!({"app": "other"})),
        ] {
            let mut other = spec.clone();
            other[field] = value;
            assert!(of(other.clone()).is_empty(), "{other}");
        }
    }

    #[test]
    fn rules_must_cover_all_addresses_of_the_clients_families() {
        let addresses = vec!["10.5.0.2/32".parse().unwrap()];
        let peer = TunnelPeer { name: "n".into(), addresses, keepalive: None };
        let mut plan = Plan::default();
        assert!(!is_covered(&pod("web"), &peer, &plan));
        plan.access.pairs.insert(("10.5.0.2".parse().unwrap(), "10.244.0.5".parse().unwrap()));
        assert!(is_covered(&pod("web"), &peer, &plan));
    }
}
