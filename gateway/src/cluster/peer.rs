//! Kilo's peers as they stand in the cluster.

use kube::core::{ApiResource, DynamicObject};
use sinfonia_wire::cluster::{DEPLOYMENT, KILO_GROUP, KILO_PEER_KIND, KILO_VERSION, LABEL, PeerSpec};

/// A peer, well-formed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPeer {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was made, Unix time in seconds.
    pub created: i64,
    /// Whether it says that it is a deployment of Sinfonia's.
    pub is_deployment: bool,
    /// What it asks for, or why that cannot be read.
    pub spec: Result<PeerSpec, String>,
}

impl ClusterPeer {
    /// Reads a peer; none if it is being deleted, which ends what it stands for.
    #[must_use]
    pub fn read(object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        if metadata.deletion_timestamp.is_some() {
            return None;
        }
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let labels = metadata.labels.as_ref();
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
            is_deployment: labels.and_then(|labels| labels.get(LABEL)).is_some_and(|value| value == DEPLOYMENT),
            spec: serde_json::from_value(spec).map_err(|error| error.to_string()),
        })
    }

    /// The resource that peers are.
    #[must_use]
    pub fn resource() -> ApiResource {
        ApiResource {
            group: KILO_GROUP.into(),
            version: KILO_VERSION.into(),
            api_version: format!("{KILO_GROUP}/{KILO_VERSION}"),
            kind: KILO_PEER_KIND.into(),
            plural: "peers".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Option<ClusterPeer> {
        ClusterPeer::read(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_peer_as_tier2_writes_it() {
        let peer = read(json!({
            "apiVersion": "kilo.squat.ai/v1alpha1", "kind": "Peer",
            "metadata": {
                "name": "brave-otter", "uid": "u", "creationTimestamp": "1970-01-01T00:01:00Z",
                "labels": {"findcloudlet.org": "deployment"},
            },
            "spec": {
                "allowedIPs": ["10.5.0.2/32"], "persistentKeepalive": 10,
                "publicKey": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
            },
        }))
        .unwrap();
        assert!(peer.is_deployment);
        assert_eq!((peer.name.as_str(), peer.created), ("brave-otter", 60));
        assert_eq!(peer.spec.unwrap().persistent_keepalive, 10);
    }

    #[test]
    fn broken_peers_are_kept_with_the_reason() {
        let peer = read(json!({"metadata": {"name": "a"}, "spec": {"allowedIPs": [], "publicKey": "short"}})).unwrap();
        assert!(peer.spec.unwrap_err().contains("public key"));
        assert!(!peer.is_deployment);
        assert!(read(json!({"metadata": {"name": "a"}})).unwrap().spec.is_err());
    }

    #[test]
    fn a_peer_that_is_being_deleted_is_gone() {
        let metadata = json!({"name": "a", "deletionTimestamp": "1970-01-01T00:01:00Z"});
        assert_eq!(read(json!({"metadata": metadata})), None);
    }
}
