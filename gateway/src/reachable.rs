//! Whether a client can use its deployment now: asked by tier2 before it tells the client to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use sinfonia_wire::PublicKey;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::{ClusterPod, within};
use crate::plan::{Plan, TunnelPeer};

/// Longest wait for one connection; it is to a pod of this cluster.
const CONNECT: Duration = Duration::from_secs(1);
/// At how many deployments the API server is asked to look at the same time.
const LOOKS: usize = 8;
/// How long others who ask for the same deployment are told what was found.
const FRESH: Duration = Duration::from_millis(50);
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
    looks: Arc<Semaphore>,
    /// What was found last; locked while it is being found out.
    found: Arc<Mutex<BTreeMap<PublicKey, Cell>>>,
}

type Cell = Arc<tokio::sync::Mutex<Option<Found>>>;

struct Found {
    at: Instant,
    plan: Arc<Plan>,
    reachability: Reachability,
}

impl Found {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }
}

impl Prober {
    /// A prober of what is in force.
    #[must_use]
    pub(crate) fn new(client: Client, applied: watch::Receiver<Arc<Plan>>) -> Self {
        Self { client, applied, looks: Arc::new(Semaphore::new(LOOKS)), found: Arc::default() }
    }

    /// Tries until the deployment of `key` can be reached, or for `wait` in vain.
    pub(crate) async fn probe(&self, key: &PublicKey, wait: Duration) -> Reachability {
        let begin = Instant::now();
        let deadline = begin + wait;
        // Who does not wait may still have to for others.
        let patience = deadline.max(begin + CONNECT);
        let mut applied = self.applied.clone();
        let (mut pause, longest) = PAUSES;
        loop {
            let plan = applied.borrow_and_update().clone();
            let found = self.attempt(&plan, key, patience).await;
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

    async fn attempt(&self, plan: &Arc<Plan>, key: &PublicKey, patience: Instant) -> Reachability {
        let Some(peer) = plan.peers.get(key) else {
            let refused = plan.refused.values().find(|refused| refused.key == Some(*key));
            return refused.map_or(Reachability::Unknown, |refused| {
                Reachability::Unreachable(format!("the client's peer is not served: {}", refused.refusal))
            });
        };
        let cell = self.cell(key);
        let Ok(mut found) = timeout_at(patience, cell.lock()).await else { return busy() };
        if let Some(found) = found.as_ref().filter(|found| found.is_fresh() && Arc::ptr_eq(&found.plan, plan)) {
            return found.reachability.clone();
        }
        let Ok(obstacle) = self.obstacle(plan, peer, patience).await else { return busy() };
        let reachability = obstacle.map_or(Reachability::Reachable, Reachability::Unreachable);
        *found = Some(Found { at: Instant::now(), plan: plan.clone(), reachability: reachability.clone() });
        reachability
    }

    /// Where what is found of this client's deployment is kept; forgets what is of no use any more.
    fn cell(&self, key: &PublicKey) -> Cell {
        let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, cell| {
            let is_fresh = |found: &Option<Found>| found.as_ref().is_some_and(Found::is_fresh);
            Arc::strong_count(cell) > 1 || cell.try_lock().is_ok_and(|found| is_fresh(&found))
        });
        all.entry(*key).or_default().clone()
    }

    /// What is in the way, by what the API server says now: the gateway's own copy may lag behind.
    ///
    /// # Errors
    /// When others are looked at for longer than `patience`.
    async fn obstacle(&self, plan: &Plan, peer: &TunnelPeer, patience: Instant) -> Result<Option<String>, Elapsed> {
        let look = timeout_at(patience, self.looks.acquire()).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &peer.name);
        let services: Api<Service> = Api::namespaced(self.client.clone(), &peer.name);
        let everything = ListParams::default();
        let (pods, services) = tokio::join!(
            within("list the deployment's pods", pods.list(&everything)),
            within("list the deployment's services", services.list(&everything)),
        );
        drop(look);
        let (pods, services) = match (pods, services) {
            (Ok(pods), Ok(services)) => (pods.items, services.items),
            (Err(error), _) | (_, Err(error)) => return Ok(Some(format!("the gateway {error}"))),
        };
        if let Some(pod) = pods.iter().find(|pod| !is_covered(pod, peer, plan)) {
            return Ok(Some(format!("the gateway's rules do not cover the pod {} yet", pod.name_any())));
        }
        let attempts = services.iter().flat_map(|service| targets(service, &pods)).map(Target::connect);
        Ok(join_all(attempts).await.into_iter().flatten().next())
    }
}

fn busy() -> Reachability {
    Reachability::Unreachable("the gateway is busy with looking at others".to_owned())
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
mod tests;
