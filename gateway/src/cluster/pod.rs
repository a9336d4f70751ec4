//! Pods, reduced to what rules are made of.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

const RESOLVER_NAMESPACE: &str = "kube-system";
const RESOLVER_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// A pod that packets can be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPod {
    /// Its namespace.
    pub namespace: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node it is on.
    pub node: String,
    /// Whether it resolves names for the whole cluster.
    pub is_resolver: bool,
}

impl ClusterPod {
    /// Reads a pod. None if it has no address of its own: pods in the host's network have the node's, and a pod that
    /// has ended may see its address given to another.
    #[must_use]
    pub fn read(pod: &Pod) -> Option<Self> {
        if !Self::is_of_cluster_network(pod) {
            return None;
        }
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        let addresses: Vec<IpAddr> =
            status.pod_ips.iter().flatten().filter_map(|address| address.ip.parse().ok()).collect();
        if addresses.is_empty() {
            return None;
        }
        let namespace = pod.metadata.namespace.clone()?;
        let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(RESOLVER_LABEL.0));
        Some(Self {
            is_resolver: namespace == RESOLVER_NAMESPACE && label.is_some_and(|value| value == RESOLVER_LABEL.1),
            namespace,
            addresses,
            node: spec.node_name.clone().unwrap_or_default(),
        })
    }

    /// Whether a pod has or will have an address of its own.
    #[must_use]
    pub fn is_of_cluster_network(pod: &Pod) -> bool {
        let has_ended =
            matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
        let is_of_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        !has_ended && !is_of_host
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(metadata: Value, spec: Value, status: Value) -> Option<ClusterPod> {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = json!({"metadata": metadata, "spec": spec, "status": status});
        ClusterPod::read(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn only_pods_with_an_address_of_their_own_count() {
        let (metadata, spec) = (json!({"name": "a", "namespace": "n"}), json!({"nodeName": "w"}));
        let running = json!({"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}, {"ip": "fd00::5"}]});
        let pod = read(metadata.clone(), spec.clone(), running.clone()).unwrap();
        assert_eq!((pod.addresses.len(), pod.node.as_str(), pod.is_resolver), (2, "w", false));
        assert_eq!(read(metadata.clone(), json!({"hostNetwork": true}), running), None);
        assert_eq!(read(metadata.clone(), spec.clone(), json!({"phase": "Pending"})), None);
        for phase in ["Succeeded", "Failed"] {
            let ended = json!({"phase": phase, "podIPs": [{"ip": "10.244.0.5"}]});
            assert_eq!(read(metadata.clone(), spec.clone(), ended), None, "{phase}");
        }
    }

    #[test]
    fn resolvers_are_the_clusters_own() {
        let status = json!({"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}]});
        for (namespace, app, expected) in
            [("kube-system", "kube-dns", true), ("evil", "kube-dns", false), ("kube-system", "kube-proxy", false)]
        {
            let metadata = json!({"name": "a", "namespace": namespace, "labels": {"k8s-app": app}});
            assert_eq!(read(metadata, json!({}), status.clone()).unwrap().is_resolver, expected);
        }
    }
}
