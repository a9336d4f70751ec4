//! Names by which the parts of a cloudlet on Kubernetes, and existing tools, find each other's objects.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::key::PublicKey;

/// Label of every peer, namespace and other object that belongs to a deployment; its value is [`DEPLOYMENT`].
pub const LABEL: &str = "findcloudlet.org";
/// The value of [`LABEL`].
pub const DEPLOYMENT: &str = "deployment";
/// Label with the application's uuid.
pub const UUID_LABEL: &str = "findcloudlet.org/uuid";
/// Label with the client's key, as [`key_label`] writes it.
pub const KEY_LABEL: &str = "findcloudlet.org/key";
/// Label with the client's (IPv4) address in the tunnel.
pub const CLIENT_LABEL: &str = "findcloudlet.org/client";
/// Annotation that tells when the deployment was first asked for, RFC 3339.
pub const CREATED_ANNOTATION: &str = "findcloudlet.org/created";
/// Annotation with the W3C trace context of the request that asked for the deployment.
pub const TRACEPARENT_ANNOTATION: &str = "findcloudlet.org/traceparent";
/// Node annotation with the WireGuard public key of the tunnels' end on this node, as Kilo writes it.
pub const KILO_KEY_ANNOTATION: &str = "kilo.squat.ai/key";
/// Node annotation with the host and port of the tunnels' end on this node, as Kilo writes it.
pub const KILO_ENDPOINT_ANNOTATION: &str = "kilo.squat.ai/endpoint";
/// Node annotation with the base URL of our gateway's HTTP API, if it is ours that ends tunnels on this node.
pub const GATEWAY_ANNOTATION: &str = "findcloudlet.org/gateway";

/// Group of Kilo's resources.
pub const KILO_GROUP: &str = "kilo.squat.ai";
/// Version of Kilo's resources.
pub const KILO_VERSION: &str = "v1alpha1";
/// Kind of Kilo's peers, which have cluster scope.
pub const KILO_PEER_KIND: &str = "Peer";

/// The `spec` of a Kilo peer, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerSpec {
    /// Addresses of the client.
    #[serde(rename = "allowedIPs")]
    pub allowed_ips: Vec<IpNet>,
    /// The client's key.
    pub public_key: PublicKey,
    /// Seconds between keepalives; 0 for none.
    #[serde(default)]
    pub persistent_keepalive: u16,
}

/// The value of [`KEY_LABEL`]: the affixes because a label's value must begin and end with an alphanumeric.
#[must_use]
pub fn key_label(key: &PublicKey) -> String {
    format!("wg-{}-pubkey", key.url_safe())
}

/// The key in a value of [`KEY_LABEL`].
#[must_use]
pub fn key_of_label(value: &str) -> Option<PublicKey> {
    value.strip_prefix("wg-")?.strip_suffix("-pubkey")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_labels_are_those_of_the_reference() {
        let key: PublicKey = "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=".parse().unwrap();
        let label = key_label(&key);
        assert_eq!(label, "wg-Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE-pubkey");
        assert!(label.len() <= 63);
        assert_eq!(key_of_label(&label), Some(key));
        for broken in ["", "wg--pubkey", "Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE", "wg-pubkey"] {
            assert_eq!(key_of_label(broken), None, "{broken}");
        }
    }
}
