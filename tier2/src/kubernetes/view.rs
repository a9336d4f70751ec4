//! What is known of the cluster: its nodes and its resolver.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, NodeAddress, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use kube::{Api, Client, api::ListParams};
use sinfonia_wire::{CloudletId, PublicKey, TunnelEndpoint, cluster};
use thiserror::Error;
use tokio::time::Instant;
use url::Url;

use super::{fetch::reason, quantity::amount, said::Said};

#[cfg(test)]
pub(crate) mod tests;

/// How long the API server may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How old an answer may be that is given again.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// How soon after a failure the API server is asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// Namespace of the cluster's own parts.
const KUBE_SYSTEM: &str = "kube-system";
/// The resolver's service.
const KUBE_DNS: &str = "kube-dns";
/// Namespace of the API servers' service and its endpoints, and their name.
const API_SERVERS: (&str, &str) = ("default", "kubernetes");
/// Kilo's mark of the node that ends the tunnels of its location.
const KILO_LEADER_ANNOTATION: &str = "kilo.squat.ai/leader";

/// The cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterView {
    /// Its nodes, by name.
    pub nodes: Vec<NodeFacts>,
    /// The address of the resolver; none without service kube-dns.
    pub resolver: Option<IpAddr>,
    /// Whether a pod behind the resolver's address is ready.
    pub dns_ready: bool,
    /// The addresses of its API servers, as pods reach them.
    pub api_servers: Vec<IpAddr>,
    /// The networks that services have their addresses from; none where the cluster does not tell (before Kubernetes 1.33).
    pub service_networks: Vec<IpNet>,
}

/// What matters of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Whether its kubelet says that it is.
    pub ready: bool,
    /// Whether it takes new pods (not cordoned).
    pub schedulable: bool,
    /// Its InternalIPs: one, or with two families one of each.
    pub addresses: Vec<IpAddr>,
    /// Its ExternalIPs.
    pub external_addresses: Vec<IpAddr>,
    /// The networks its pods have their addresses from.
    pub pod_networks: Vec<IpNet>,
    /// Processors for pods.
    pub cpus: Option<f64>,
    /// Memory for pods, bytes.
    pub memory: Option<f64>,
    /// The tunnels' public key, as the annotation has it, if it is one.
    pub key: Option<PublicKey>,
    /// Where tunnels are reached, if the annotation can be read.
    pub endpoint: Option<TunnelEndpoint>,
    /// The URL of our gateway on it.
    pub gateway: Option<Url>,
    /// Whether Kilo made it the leader of its location.
    pub kilo_leader: bool,
}

/// The cluster cannot be looked at.
#[derive(Debug, Clone, Error)]
pub enum ViewError {
    /// The API server refuses or is away.
    #[error("the cluster's {what} cannot be read: {reason}")]
    Api {
        /// Which objects.
        what: &'static str,
        /// Why.
        reason: String,
        /// Whether rights are missing.
        is_forbidden: bool,
    },
    /// Too slow.
    #[error("the API server did not answer within {} s", TIME_LIMIT.as_secs())]
    Silent,
    /// An object without what all have.
    #[error("namespace kube-system has no uid that could be the cloudlet's")]
    NoIdentity,
}

/// Looks at the cluster when it is asked to, and remembers for a while. Clones share what they remember.
#[derive(Clone)]
pub struct ClusterWatch(Arc<Shared>);

struct Shared {
    client: Client,
    latest: tokio::sync::Mutex<Option<Seen>>,
    good: Mutex<Option<Arc<ClusterView>>>,
    unread: Mutex<Said>,
}

struct Seen {
    at: Instant,
    result: Result<Arc<ClusterView>, ViewError>,
}

impl ClusterWatch {
    /// Has not looked yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let unread = Said::new("backends are not kept off all public addresses of the cluster");
        Self(Arc::new(Shared {
            client,
            latest: tokio::sync::Mutex::default(),
            good: Mutex::default(),
            unread: Mutex::new(unread),
        }))
    }

    /// The cluster as it was at most 10 s ago.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub async fn look(&self) -> Result<Arc<ClusterView>, ViewError> {
        // Held meanwhile, so that those who ask at the same time ask once.
        let mut latest = self.0.latest.lock().await;
        if let Some(Seen { at, result }) = &*latest
            && at.elapsed() < if result.is_ok() { FRESH } else { PAUSE }
        {
            return result.clone();
        }
        let listed = tokio::time::timeout(TIME_LIMIT, list(&self.0.client)).await;
        let result = listed.unwrap_or(Err(ViewError::Silent)).map(|(view, read)| {
            self.0.unread.lock().unwrap_or_else(PoisonError::into_inner).note(&read);
            Arc::new(view)
        });
        if let Ok(view) = &result {
            *self.0.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(view));
        }
        *latest = Some(Seen { at: Instant::now(), result: result.clone() });
        result
    }

    /// As [`Self::look`], but while the API server is away the cluster as it last was, however long ago: what changes
    /// seldom is better old than unknown.
    ///
    /// # Errors
    /// When it was never seen.
    pub async fn look_or_remember(&self) -> Result<Arc<ClusterView>, ViewError> {
        let result = self.look().await;
        let good = self.0.good.lock().unwrap_or_else(PoisonError::into_inner).clone();
        result.or_else(|error| good.ok_or(error))
    }
}

/// The identity of the cluster's cloudlet: the uid of namespace kube-system, which lives as long as the cluster.
///
/// # Errors
/// When it cannot be read.
pub async fn cluster_id(client: &Client) -> Result<CloudletId, ViewError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = tokio::time::timeout(TIME_LIMIT, namespaces.get(KUBE_SYSTEM)).await;
    let namespace = namespace.map_err(|_| ViewError::Silent)?.map_err(failed("namespace kube-system"))?;
    namespace.metadata.uid.and_then(|uid| uid.parse().ok()).ok_or(ViewError::NoIdentity)
}

/// The cluster, and whether all of it could be read: some rights are newer than others, and older ones do.
async fn list(client: &Client) -> Result<(ClusterView, Result<(), ViewError>), ViewError> {
    // From the API server's cache: nothing here depends on the last second.
    let cached = ListParams::default().match_any();
    let (nodes, services, slices): (Api<Node>, Api<Service>, Api<EndpointSlice>) = (
        Api::all(client.clone()),
        Api::namespaced(client.clone(), KUBE_SYSTEM),
        Api::namespaced(client.clone(), KUBE_SYSTEM),
    );
    let (api_servers, ranges): (Api<EndpointSlice>, Api<ServiceCIDR>) =
        (Api::namespaced(client.clone(), API_SERVERS.0), Api::all(client.clone()));
    let of_resolver = cached.clone().labels(&format!("kubernetes.io/service-name={KUBE_DNS}"));
    let (nodes, service, slices, api_servers, ranges) = tokio::join!(
        nodes.list(&cached),
        services.get_opt(KUBE_DNS),
        slices.list(&of_resolver),
        api_servers.get_opt(API_SERVERS.1),
        ranges.list(&cached),
    );
    let mut nodes: Vec<NodeFacts> = nodes.map_err(failed("nodes"))?.items.into_iter().map(NodeFacts::from).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let service = service.map_err(failed("service kube-dns"))?;
    let slices = slices.map_err(failed("endpoints of service kube-dns"))?;
    let mut read = Ok(());
    let api_servers = unless_forbidden(api_servers.map_err(failed("endpoints of service kubernetes")), &mut read)?;
    let ranges = match ranges {
        // An older cluster has no such kind.
        Err(kube::Error::Api(status)) if status.is_not_found() => vec![],
        ranges => unless_forbidden(ranges.map(|list| list.items).map_err(failed("ServiceCIDRs")), &mut read)?,
    };
    let view = ClusterView {
        nodes,
        resolver: service.as_ref().and_then(cluster_ip),
        dns_ready: has_ready(&slices.items),
        api_servers: api_servers.iter().flat_map(addresses).collect(),
        service_networks: ranges.iter().flat_map(networks).collect(),
    };
    Ok((view, read))
}

/// What was asked for; nothing where the right to it is missing, which `read` then says.
fn unless_forbidden<T: Default>(
    result: Result<T, ViewError>,
    read: &mut Result<(), ViewError>,
) -> Result<T, ViewError> {
    match result {
        Err(error @ ViewError::Api { is_forbidden: true, .. }) => {
            *read = Err(error);
            Ok(T::default())
        }
        result => result,
    }
}

fn addresses(slice: &EndpointSlice) -> Vec<IpAddr> {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

fn networks(range: &ServiceCIDR) -> Vec<IpNet> {
    let networks = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    networks.filter_map(|network| network.parse().ok()).collect()
}

fn failed(what: &'static str) -> impl Fn(kube::Error) -> ViewError {
    move |error| {
        let is_forbidden = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
        ViewError::Api { what, reason: reason(&error), is_forbidden }
    }
}

/// The address of a service inside the cluster; a headless one has none.
pub(crate) fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

/// Readiness that is not told counts, as the API says.
fn has_ready(slices: &[EndpointSlice]) -> bool {
    let mut endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    endpoints.any(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true))
}

impl From<Node> for NodeFacts {
    fn from(node: Node) -> Self {
        let annotations = node.metadata.annotations.unwrap_or_default();
        let annotation = |name| annotations.get(name).map(String::as_str);
        let status = node.status.unwrap_or_default();
        let ready = |condition: &k8s_openapi::api::core::v1::NodeCondition| {
            condition.type_ == "Ready" && condition.status == "True"
        };
        let allocatable = status.allocatable.unwrap_or_default();
        let allocatable = |name| allocatable.get(name).and_then(|quantity| amount(&quantity.0)).filter(|&n| n > 0.0);
        let spec = node.spec.unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        let addresses = |kind: &str| {
            let of_kind = addresses.iter().filter(|address: &&NodeAddress| address.type_ == kind);
            of_kind.filter_map(|address| address.address.parse().ok()).collect()
        };
        Self {
            pod_networks: spec.pod_cidrs.iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect(),
            name: node.metadata.name.unwrap_or_default(),
            ready: status.conditions.unwrap_or_default().iter().any(ready),
            schedulable: !spec.unschedulable.unwrap_or_default(),
            addresses: addresses("InternalIP"),
            external_addresses: addresses("ExternalIP"),
            cpus: allocatable("cpu"),
            memory: allocatable("memory"),
            key: annotation(cluster::KILO_KEY_ANNOTATION).and_then(|key| key.parse().ok()),
            endpoint: annotation(cluster::KILO_ENDPOINT_ANNOTATION).and_then(|endpoint| endpoint.parse().ok()),
            gateway: annotation(cluster::GATEWAY_ANNOTATION)
                .and_then(|url| url.parse().ok())
                .filter(|url: &Url| matches!(url.scheme(), "http" | "https")),
            kilo_leader: annotation(KILO_LEADER_ANNOTATION).is_some(),
        }
    }
}
