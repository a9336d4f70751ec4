//! `CloudletDeployment`, the object in which a deployment's state lives.
//!
//! Its name follows from application and key, so the API server itself makes duplicates impossible. Requests write the
//! `spec` (server-side apply), the operator writes the `status`.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sinfonia_wire::{ApplicationId, DeploymentName, DeploymentStatus, PublicKey};
use time::OffsetDateTime;

use crate::deployment::DeploymentId;

/// What was asked for.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "findcloudlet.org",
    version = "v1alpha1",
    kind = "CloudletDeployment",
    plural = "cloudletdeployments",
    shortname = "cd",
    status = "CloudletDeploymentStatus",
    derive = "PartialEq",
    doc = "The backend of one application for one client.",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Name","type":"string","jsonPath":".status.deploymentName","description":"Namespace, Helm release and peer"}"#,
    printcolumn = r#"{"name":"Client","type":"string","jsonPath":".status.clientAddresses[0]"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.expiresAt"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Application","type":"string","jsonPath":".spec.application","priority":1}"#,
    printcolumn = r#"{"name":"Activity","type":"string","jsonPath":".status.lastActivity","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CloudletDeploymentSpec {
    /// The application: the uuid of its recipe.
    // What cannot be read would keep all others from being seen, so the API server refuses it.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub application: ApplicationId,
    /// The client's WireGuard public key, padded standard base64.
    #[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"))]
    pub key: PublicKey,
    /// When it was last asked for, RFC 3339. The lease is counted from here.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub requested_at: OffsetDateTime,
    /// The address the client asked from, for the limit per client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("anyOf" = [{ "format": "ipv4" }, { "format": "ipv6" }]))]
    pub client_address: Option<IpAddr>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudletDeploymentStatus {
    /// Where it is in its life; absent until the operator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Name of namespace, Helm release and peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deployment_name: Option<DeploymentName>,
    /// The client's addresses in the tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub client_addresses: Vec<IpAddr>,
    /// When this life of the deployment began, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<OffsetDateTime>,
    /// When it ends at the latest, if its recipe limits its age, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>")]
    pub ends_at: Option<OffsetDateTime>,
    /// When the client was last seen in its tunnel, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>")]
    pub last_activity: Option<OffsetDateTime>,
    /// When the lease ends unless there is a request or activity, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<OffsetDateTime>,
    /// The request that the operator has answered last, or answers now: `spec.requestedAt` of then.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>")]
    pub observed_request: Option<OffsetDateTime>,
    /// For people: what is waited for, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<DeploymentFailure>,
    /// `Ready`, and `Retrying` while what is to be done fails for a reason that may pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where a deployment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Peer and backend are being made.
    Initializing,
    /// The backend is usable.
    Deployed,
    /// Its lease has ended: peer and release are being taken away.
    Expiring,
    /// Peer and release are gone; the next look removes the rest.
    Withdrawn,
    /// A request came while it was expiring: peer and release are being made again.
    Reviving,
    /// Over. After a failure the object stays for a while to tell why.
    Expired,
}

/// Why a deployment could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentFailure {
    /// For programs: kebab-case and stable.
    pub code: String,
    /// For people, one sentence.
    pub message: String,
    /// The backend's last words, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// When, RFC 3339.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub at: OffsetDateTime,
}

impl From<Phase> for DeploymentStatus {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Initializing => Self::Initializing,
            Phase::Deployed => Self::Deployed,
            Phase::Expiring | Phase::Withdrawn | Phase::Reviving => Self::Expiring,
            Phase::Expired => Self::Expired,
        }
    }
}

impl CloudletDeployment {
    /// Whose and what it is.
    #[must_use]
    pub const fn id(&self) -> DeploymentId {
        DeploymentId { application: self.spec.application, key: self.spec.key }
    }

    /// The phase, if the operator has seen it.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.status.as_ref().and_then(|status| status.phase)
    }

    /// The name of namespace, release and peer, once it has one.
    #[must_use]
    pub fn deployment_name(&self) -> Option<&DeploymentName> {
        self.status.as_ref().and_then(|status| status.deployment_name.as_ref())
    }

    /// Its resource version: decimal numbers that grow (Kubernetes API conventions since 1.35).
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.metadata.resource_version.as_ref()?.parse().ok()
    }

    /// Whether its deletion was asked for.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

/// Name of the object of this deployment: `d-` and 160 bits of SHA-256 over application and key, hexadecimal.
#[must_use]
pub fn object_name(id: &DeploymentId) -> String {
    let digest =
        Sha256::new().chain_update(id.application.uuid().as_bytes()).chain_update(id.key.as_bytes()).finalize();
    digest.iter().take(20).fold(String::from("d-"), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
pub(super) mod tests {
    use kube::CustomResourceExt as _;

    use super::*;

    /// An object of this key, asked for at the beginning of time.
    pub(in crate::kubernetes) fn object(n: u8, phase: Option<Phase>) -> CloudletDeployment {
        let spec = CloudletDeploymentSpec {
            application: id(n).application,
            key: id(n).key,
            requested_at: OffsetDateTime::UNIX_EPOCH,
            client_address: None,
        };
        let mut object = CloudletDeployment::new(&object_name(&id(n)), spec);
        object.status = phase.map(|phase| CloudletDeploymentStatus { phase: Some(phase), ..Default::default() });
        object
    }

    fn id(n: u8) -> DeploymentId {
        DeploymentId { application: ApplicationId::HELLOWORLD, key: PublicKey::from([n; 32]) }
    }

    #[test]
    fn names_follow_from_application_and_key() {
        let name = object_name(&id(1));
        assert_eq!(name.len(), 42);
        assert_eq!(name, object_name(&id(1)));
        assert_ne!(name, object_name(&id(2)));
    }

    #[test]
    fn the_definition_that_is_kept_is_this_one() {
        let kept = include_str!("../../../deploy/kubernetes/crds/cloudletdeployments.yaml");
        let made = serde_saphyr::to_string(&CloudletDeployment::crd()).unwrap();
        let how = "sinfonia-tier2 crd >deploy/kubernetes/crds/cloudletdeployments.yaml";
        assert_eq!(made.trim_end(), kept.trim_end(), "make it anew: {how}");
    }

    #[test]
    fn statuses_round_trip_and_leave_out_what_is_not_known() {
        let empty = CloudletDeploymentStatus::default();
        assert_eq!(serde_json::to_string(&empty).unwrap(), "{}");
        let status = CloudletDeploymentStatus {
            phase: Some(Phase::Deployed),
            client_addresses: vec!["10.5.0.9".parse().unwrap()],
            created_at: Some(OffsetDateTime::UNIX_EPOCH),
            ..empty
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["createdAt"], "1970-01-01T00:00:00Z");
        assert_eq!(serde_json::from_value::<CloudletDeploymentStatus>(json).unwrap(), status);
    }
}
