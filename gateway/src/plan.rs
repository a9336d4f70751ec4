//! Who is served, and whom they may reach: decided from the cluster's peers and pods alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use sinfonia_wire::PublicKey;
use thiserror::Error;

use crate::cluster::{ClusterPeer, ClusterPod};
use crate::nft::Access;

#[cfg(test)]
mod tests;

/// Namespaces whose pods no peer may ever reach by its name: the cluster's own.
const SYSTEM_PREFIX: &str = "kube-";
const DEFAULT_NAMESPACE: &str = "default";

/// What stays the same while a gateway runs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Networks that clients' addresses are in.
    pub client_networks: Vec<IpNet>,
    /// The gateway's node.
    pub node: String,
    /// The gateway's namespace.
    pub namespace: String,
    /// The gateway's own key.
    pub key: PublicKey,
}

/// What is to be in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The peers that are served.
    pub peers: BTreeMap<PublicKey, TunnelPeer>,
    /// Whom they may reach.
    pub access: Access,
    /// Peers that are not served, by name.
    pub refused: BTreeMap<String, Refused>,
}

/// A client's end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPeer {
    /// The peer's name, which is its deployment's and that of the namespace it may reach.
    pub name: String,
    /// Its addresses, each a network of one.
    pub addresses: Vec<IpNet>,
    /// How often to show that the tunnel is there.
    pub keepalive: Option<Duration>,
}

/// A peer that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its key, if that is one.
    pub key: Option<PublicKey>,
    /// Its uid, to tell it from a later one of the same name.
    pub uid: String,
    /// Why.
    pub refusal: Refusal,
}

/// Why a peer is not served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is somebody else's.
    #[error("it has no label findcloudlet.org=deployment, so it is not Sinfonia's")]
    NotOurs,
    /// It does not say what it should.
    #[error("its spec is not valid: {0}")]
    Invalid(String),
    /// It has no address.
    #[error("spec.allowedIPs is empty: give the client's address")]
    NoAddress,
    /// A client is one host.
    #[error("spec.allowedIPs holds {0}, which is more than one address: give the client's alone, as /32 or /128")]
    Network(IpNet),
    /// It would take traffic that is not for clients.
    #[error("its address {0} is outside the gateway's --client-network")]
    Outside(IpAddr),
    /// It would reach the cluster itself.
    #[error("it is named as the namespace {0}, which holds no deployment")]
    System(String),
    /// It is the gateway's.
    #[error("its key is the gateway's own")]
    OwnKey,
    /// Two peers, one key.
    #[error("its key is also that of the older peer {0}")]
    TakenKey(String),
    /// Two peers, one address.
    #[error("its address {address} is also that of the older peer {by}")]
    TakenAddress {
        /// The address.
        address: IpAddr,
        /// Who has it.
        by: String,
    },
}

/// Decides from what is in the cluster now. The order of peers and pods does not matter.
#[must_use]
pub fn plan<'a>(
    peers: impl IntoIterator<Item = &'a ClusterPeer>,
    pods: impl IntoIterator<Item = &'a ClusterPod>,
    surroundings: &Surroundings,
) -> Plan {
    let mut plan = Plan::default();
    choose_peers(peers, surroundings, &mut plan);
    grant_access(pods, surroundings, &mut plan);
    plan
}

fn choose_peers<'a>(peers: impl IntoIterator<Item = &'a ClusterPeer>, surroundings: &Surroundings, plan: &mut Plan) {
    let mut oldest_first: Vec<_> = peers.into_iter().collect();
    oldest_first.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut taken: HashMap<IpAddr, &str> = HashMap::new();
    for peer in oldest_first {
        match accept(peer, surroundings, plan, &taken) {
            Ok((key, tunnel)) => {
                taken.extend(tunnel.addresses.iter().map(|address| (address.addr(), peer.name.as_str())));
                plan.peers.insert(key, tunnel);
            }
            Err(refusal) => {
                let key = peer.spec.as_ref().ok().map(|spec| spec.public_key);
                plan.refused.insert(peer.name.clone(), Refused { key, uid: peer.uid.clone(), refusal });
            }
        }
    }
}

fn accept(
    peer: &ClusterPeer,
    surroundings: &Surroundings,
    plan: &Plan,
    taken: &HashMap<IpAddr, &str>,
) -> Result<(PublicKey, TunnelPeer), Refusal> {
    if !peer.is_deployment {
        return Err(Refusal::NotOurs);
    }
    let is_system = peer.name.starts_with(SYSTEM_PREFIX) || peer.name == DEFAULT_NAMESPACE;
    if is_system || peer.name == surroundings.namespace {
        return Err(Refusal::System(peer.name.clone()));
    }
    let spec = peer.spec.as_ref().map_err(|reason| Refusal::Invalid(reason.clone()))?;
    if spec.allowed_ips.is_empty() {
        return Err(Refusal::NoAddress);
    }
    if spec.public_key == surroundings.key {
        return Err(Refusal::OwnKey);
    }
    if let Some(other) = plan.peers.get(&spec.public_key) {
        return Err(Refusal::TakenKey(other.name.clone()));
    }
    for network in &spec.allowed_ips {
        let address = network.addr();
        if network.prefix_len() != network.max_prefix_len() {
            return Err(Refusal::Network(*network));
        }
        if !surroundings.client_networks.iter().any(|clients| clients.contains(&address)) {
            return Err(Refusal::Outside(address));
        }
        if let Some(by) = taken.get(&address) {
            return Err(Refusal::TakenAddress { address, by: (*by).to_owned() });
        }
    }
    let keepalive = Some(spec.persistent_keepalive).filter(|seconds| *seconds > 0);
    let keepalive = keepalive.map(|seconds| Duration::from_secs(seconds.into()));
    let addresses = spec.allowed_ips.clone();
    Ok((spec.public_key, TunnelPeer { name: peer.name.clone(), addresses, keepalive }))
}

fn grant_access<'a>(pods: impl IntoIterator<Item = &'a ClusterPod>, surroundings: &Surroundings, plan: &mut Plan) {
    let pods: Vec<_> = pods.into_iter().collect();
    let contested = contested(&pods);
    let is_sure = |address: &IpAddr| {
        !contested.contains(address) && !surroundings.client_networks.iter().any(|network| network.contains(address))
    };
    let clients: HashMap<&str, &TunnelPeer> = plan.peers.values().map(|peer| (peer.name.as_str(), peer)).collect();
    let access = &mut plan.access;
    for pod in pods {
        let client = clients.get(pod.namespace.as_str());
        for address in pod.addresses.iter().copied().filter(is_sure) {
            if pod.is_resolver {
                access.resolvers.insert(address);
            }
            for client in client.iter().flat_map(|client| &client.addresses) {
                if client.addr().is_ipv4() == address.is_ipv4() {
                    access.pairs.insert((client.addr(), address));
                }
            }
            if pod.node != surroundings.node && (pod.is_resolver || client.is_some()) {
                access.remote.insert(address);
            }
        }
    }
}

/// Addresses that pods of two namespaces claim, as while a node that was away has not reported yet. Until it is known
/// whose they are, they are nobody's.
fn contested(pods: &[&ClusterPod]) -> BTreeSet<IpAddr> {
    let mut owners: HashMap<IpAddr, &str> = HashMap::new();
    let mut contested = BTreeSet::new();
    for pod in pods {
        for address in &pod.addresses {
            if *owners.entry(*address).or_insert(&pod.namespace) != pod.namespace {
                contested.insert(*address);
            }
        }
    }
    contested
}
