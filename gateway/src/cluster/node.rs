//! The nodes: where clients reach the gateway, what they are told of it, and whether Kilo is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sinfonia_wire::cluster::{GATEWAY_ANNOTATION, KILO_ENDPOINT_ANNOTATION, KILO_KEY_ANNOTATION};
use sinfonia_wire::{PublicKey, TunnelEndpoint};

use super::{ClusterError, within};

/// Annotation by which an administrator says where clients reach a node, as for Kilo.
const FORCE_ENDPOINT: &str = "kilo.squat.ai/force-endpoint";

/// Annotations that Kilo keeps on each of its nodes, and this gateway never writes.
const WRITTEN_BY_KILO: [&str; 3] =
    ["kilo.squat.ai/last-seen", "kilo.squat.ai/wireguard-ip", "kilo.squat.ai/internal-ip"];

/// Label of the node that the gateway is on, or was last: where there is something to remove.
const GATEWAY_LABEL: &str = "findcloudlet.org/gateway";

const FIELD_MANAGER: &str = "sinfonia-gateway";

/// How an API server answers what a policy denies, by the reason that the policy gives.
const FORBIDDEN: u16 = 403;
const INVALID: u16 = 422;

/// What a node says of the gateway on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The gateway's public key.
    pub key: PublicKey,
    /// Where clients' tunnels end.
    pub endpoint: TunnelEndpoint,
    /// Base URL of the gateway's HTTP API.
    pub api: String,
}

impl Announcement {
    /// The annotations it is made of.
    fn annotations(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            (KILO_KEY_ANNOTATION, self.key.to_string()),
            (KILO_ENDPOINT_ANNOTATION, self.endpoint.to_string()),
            (GATEWAY_ANNOTATION, self.api.clone()),
        ])
    }

    /// Whether the node says so.
    #[must_use]
    pub fn stands_on(&self, node: &Node) -> bool {
        node.labels().contains_key(GATEWAY_LABEL)
            && self.annotations().iter().all(|(name, value)| node.annotations().get(*name) == Some(value))
    }
}

/// Whether a gateway is on the node, or was and left something there.
fn has_gateway(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> bool {
    labels.contains_key(GATEWAY_LABEL) || annotations.contains_key(GATEWAY_ANNOTATION)
}

/// An annotation that shows that Kilo is, or was, on the node.
#[must_use]
pub fn kilo_annotation(annotations: &BTreeMap<String, String>) -> Option<&'static str> {
    WRITTEN_BY_KILO.into_iter().find(|name| annotations.contains_key(*name))
}

/// Where clients reach the tunnels: as configured, else as the node's annotation forces, else at its address, an
/// external one if it has it. `port` counts where none is named.
#[must_use]
pub fn tunnel_endpoint(configured: Option<&str>, node: &Node, port: u16) -> Option<TunnelEndpoint> {
    let forced = node.annotations().get(FORCE_ENDPOINT).filter(|value| !value.is_empty());
    if let Some(text) = configured.or(forced.map(String::as_str)) {
        return parse_endpoint(text, port);
    }
    let address = address_of(node, "ExternalIP").or_else(|| internal_address(node))?;
    TunnelEndpoint::new(address, port).ok()
}

/// The node's address in the cluster's own network.
#[must_use]
pub fn internal_address(node: &Node) -> Option<IpAddr> {
    address_of(node, "InternalIP")
}

/// Base URL of an HTTP API at this address.
#[must_use]
pub fn base_url(address: std::net::SocketAddr) -> String {
    format!("http://{address}")
}

fn address_of(node: &Node, kind: &str) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let mut of_kind = addresses.iter().filter(|address| address.type_ == kind);
    of_kind.find_map(|address| address.address.parse().ok())
}

/// Whether this is a host, with or without a port.
#[must_use]
pub fn is_endpoint(text: &str) -> bool {
    parse_endpoint(text, 1).is_some()
}

/// Reads `host`, `host:port`, an IPv6 address with or without brackets.
fn parse_endpoint(text: &str, port: u16) -> Option<TunnelEndpoint> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return TunnelEndpoint::new(address, port).ok();
    }
    text.parse().or_else(|_| format!("{text}:{port}").parse()).ok()
}

/// The cluster's nodes.
#[derive(Clone)]
pub struct Nodes(Api<Node>);

impl Nodes {
    /// The nodes of the client's cluster.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self(Api::all(client.clone()))
    }

    /// For watching.
    #[must_use]
    pub fn api(&self) -> Api<Node> {
        self.0.clone()
    }

    /// One node.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn get(&self, name: &str) -> Result<Node, ClusterError> {
        within(format!("read the node {name}"), self.0.get(name)).await
    }

    /// The annotations of all nodes, by name.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn annotations(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClusterError> {
        Ok(self.list().await?.into_iter().map(|node| (node.name_any(), node.annotations().clone())).collect())
    }

    /// The names of nodes that a gateway is on, or was when it was removed elsewhere, but this one.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn others_with_gateway(&self, but: &str) -> Result<Vec<String>, ClusterError> {
        let nodes = self.list().await?;
        let found = nodes.iter().filter(|node| has_gateway(node.labels(), node.annotations()));
        Ok(found.map(kube::ResourceExt::name_any).filter(|node| node != but).collect())
    }

    async fn list(&self) -> Result<Vec<PartialObjectMeta<Node>>, ClusterError> {
        let nodes = within("list the nodes", self.0.list_metadata(&ListParams::default())).await?;
        Ok(nodes.items)
    }

    /// Writes the announcement to a node.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn announce(&self, node: &str, announcement: &Announcement) -> Result<(), ClusterError> {
        self.apply(node, json!(announcement.annotations()), true).await
    }

    /// Takes a gateway's announcement from a node.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn withdraw(&self, node: &str) -> Result<(), ClusterError> {
        self.apply(node, json!({}), false).await
    }

    /// Takes a gateway's announcement from a node, where something is left to be removed.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn silence(&self, node: &str) -> Result<(), ClusterError> {
        self.apply(node, json!({}), true).await
    }

    /// Annotations and labels that this manager applied earlier and not now are removed by the API server.
    async fn apply(&self, node: &str, annotations: serde_json::Value, labelled: bool) -> Result<(), ClusterError> {
        let Err(error) = self.try_apply(node, &annotations, labelled).await else { return Ok(()) };
        // A policy from before the label lets it neither come nor go. What is announced matters more.
        if !(error.is_status(FORBIDDEN) || error.is_status(INVALID)) {
            return Err(error);
        }
        self.try_apply(node, &annotations, !labelled).await.inspect(|()| {
            tracing::warn!("{error}; the label {GATEWAY_LABEL} is left as it is: apply the gateway's newer manifests");
        })
    }

    async fn try_apply(&self, node: &str, annotations: &serde_json::Value, labelled: bool) -> Result<(), ClusterError> {
        let labels = if labelled { json!({GATEWAY_LABEL: ""}) } else { json!({}) };
        let patch = Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node, "labels": labels, "annotations": annotations},
        }));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let request = self.0.patch_metadata(node, &parameters, &patch);
        within(format!("annotate the node {node}"), request).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn node(annotations: Value, addresses: &[(&str, &str)]) -> Node {
        let addresses: Vec<_> =
            addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
        let node = json!({
            "metadata": {"name": "n", "labels": {GATEWAY_LABEL: ""}, "annotations": annotations},
            "status": {"addresses": addresses},
        });
        serde_json::from_value(node).unwrap()
    }

    fn endpoint(configured: Option<&str>, node: &Node) -> String {
        tunnel_endpoint(configured, node, 51820).map_or_else(String::new, |endpoint| endpoint.to_string())
    }

    #[test]
    fn the_endpoint_is_the_first_that_somebody_gives() {
        let internal = ("InternalIP", "172.31.0.2");
        let both = [("Hostname", "n"), internal, ("ExternalIP", "192.0.2.7")];
        let forced = json!({FORCE_ENDPOINT: "gw.example.org:4500"});
        assert_eq!(endpoint(None, &node(json!({}), &[internal])), "172.31.0.2:51820");
        assert_eq!(endpoint(None, &node(json!({}), &both)), "192.0.2.7:51820");
        assert_eq!(endpoint(None, &node(forced.clone(), &both)), "gw.example.org:4500");
        assert_eq!(endpoint(None, &node(json!({FORCE_ENDPOINT: ""}), &both)), "192.0.2.7:51820");
        assert_eq!(endpoint(Some("cloudlet.example.org"), &node(forced, &both)), "cloudlet.example.org:51820");
        assert_eq!(endpoint(None, &node(json!({}), &[])), "");
    }

    #[test]
    fn endpoints_are_read_in_every_form() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1:51820"),
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("2001:db8::1", "[2001:db8::1]:51820"),
            ("[2001:db8::1]", "[2001:db8::1]:51820"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("gw", "gw:51820"),
        ] {
            assert_eq!(parse_endpoint(text, 51820).unwrap().to_string(), expected);
        }
        assert_eq!(parse_endpoint("a b", 51820), None);
    }

    #[test]
    fn kilo_is_known_by_what_only_kilo_writes() {
        let of = |node: Node| kilo_annotation(node.annotations());
        let ours = json!({KILO_KEY_ANNOTATION: "k", KILO_ENDPOINT_ANNOTATION: "e", FORCE_ENDPOINT: "f"});
        assert_eq!(of(node(ours, &[])), None);
        assert_eq!(of(node(json!({"kilo.squat.ai/wireguard-ip": ""}), &[])), Some("kilo.squat.ai/wireguard-ip"));
    }

    #[test]
    fn an_announcement_stands_when_all_of_it_does() {
        let announcement = Announcement {
            key: [7; 32].into(),
            endpoint: "192.0.2.7:51820".parse().unwrap(),
            api: base_url("172.31.0.2:51821".parse().unwrap()),
        };
        let mut annotations = json!(announcement.annotations());
        assert!(announcement.stands_on(&node(annotations.clone(), &[])));
        let mut of_before = node(annotations.clone(), &[]);
        of_before.metadata.labels = None;
        assert!(!announcement.stands_on(&of_before), "its label is not there yet");
        annotations[KILO_ENDPOINT_ANNOTATION] = "192.0.2.8:51820".into();
        assert!(!announcement.stands_on(&node(annotations, &[])));
    }

    #[test]
    fn a_node_has_a_gateway_by_its_label_or_by_what_gateways_before_wrote() {
        let some = |name: &str| BTreeMap::from([(name.to_owned(), String::new())]);
        assert!(has_gateway(&some(GATEWAY_LABEL), &BTreeMap::new()));
        assert!(has_gateway(&BTreeMap::new(), &some(GATEWAY_ANNOTATION)));
        assert!(!has_gateway(&some("kubernetes.io/os"), &some(KILO_KEY_ANNOTATION)));
    }
}
