//! The objects around a deployment, as they are applied. Plain functions; nothing here speaks to a cluster.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use kube::api::{ApiResource, GroupVersionKind, TypeMeta};
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::{Value, json};
use sinfonia_wire::{DeploymentName, Quantity, ResourceLimits, cluster};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    networks::Networks,
    options::{Egress, PodSecurity},
    policy,
    quantity::amount,
};
use crate::{deployment::DeploymentId, kubernetes::crd::CloudletDeployment};

/// Who made the fields of our objects (server-side apply).
pub(crate) const MANAGER: &str = "sinfonia-tier2";

/// ServiceAccount as which charts are installed, in each deployment's namespace, and ClusterRole of what they may
/// contain.
pub(crate) const DEPLOYER: &str = "sinfonia-deployer";

/// ClusterRole of what tier2 may do in a deployment's namespace.
const OWN_ROLE: &str = "sinfonia-tier2-namespace";

/// On a peer, what its deployment's NetworkPolicy lets in beside the client: [`Networks::sources`].
pub(super) const SOURCES_ANNOTATION: &str = "findcloudlet.org/gateway-sources";

/// On a peer, what its deployment's NetworkPolicy does not let out to: [`Networks::cluster`].
pub(super) const CLUSTER_ANNOTATION: &str = "findcloudlet.org/cluster-networks";

/// On a peer, what its deployment's NetworkPolicy lets out to: [`Surroundings::egress`].
pub(super) const EGRESS_ANNOTATION: &str = "findcloudlet.org/backend-egress";

/// What the objects around a deployment say of it. Its recipe is not in it, which may be withdrawn while it lives.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Whose and what.
    pub(super) id: DeploymentId,
    /// The name of namespace, release and peer.
    pub(super) name: DeploymentName,
    /// The client's addresses in the tunnel.
    pub(super) addresses: Vec<IpAddr>,
    /// When this life of the deployment began.
    pub(super) created: OffsetDateTime,
}

/// What the objects around a deployment depend on, beside its identity and its recipe.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// The ServiceAccount that tier2 is, as `namespace/name`; none if it is a user.
    pub(super) own_account: Option<(String, String)>,
    pub(super) pod_security: PodSecurity,
    pub(super) egress: Egress,
    pub(super) networks: Networks,
    pub(super) traceparent: Option<String>,
}

/// An object and the API it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) api: ApiResource,
    pub(super) object: DynamicObject,
}

/// What namespaces are to the API server.
pub(super) fn namespace_kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"))
}

/// What Kilo's peers are to the API server.
pub(super) fn peer_kind() -> ApiResource {
    let kind = GroupVersionKind::gvk(cluster::KILO_GROUP, cluster::KILO_VERSION, cluster::KILO_PEER_KIND);
    ApiResource::from_gvk(&kind)
}

/// The label selector of what belongs to deployments, of any tier2.
pub(super) fn selector() -> String {
    format!("{}={}", cluster::LABEL, cluster::DEPLOYMENT)
}

/// The namespace. It is created, not applied: that is what claims the name.
pub(super) fn namespace(owner: &CloudletDeployment, identity: &Identity, around: &Surroundings) -> Manifest {
    let level = around.pod_security.as_str();
    let mut labels = labels(identity);
    labels.insert("pod-security.kubernetes.io/enforce".to_owned(), level.to_owned());
    labels.insert("pod-security.kubernetes.io/warn".to_owned(), "restricted".to_owned());
    let metadata = owned(owner, identity, labels, around);
    manifest("", "v1", "Namespace", metadata, json!({}))
}

/// The Kilo peer (kilo.squat.ai/v1alpha1).
pub(super) fn peer(owner: &CloudletDeployment, identity: &Identity, around: &Surroundings) -> Manifest {
    let spec = cluster::PeerSpec {
        allowed_ips: identity.addresses.iter().map(|address| IpNet::from(*address)).collect(),
        public_key: identity.id.key,
        persistent_keepalive: 10,
    };
    let mut metadata = owned(owner, identity, labels(identity), around);
    metadata.annotations.get_or_insert_default().extend(noted(around));
    manifest(cluster::KILO_GROUP, cluster::KILO_VERSION, cluster::KILO_PEER_KIND, metadata, json!({ "spec": spec }))
}

/// What a peer says of its deployment's NetworkPolicy.
fn noted(around: &Surroundings) -> [(String, String); 3] {
    let networks = &around.networks;
    let joined = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    [
        (SOURCES_ANNOTATION.to_owned(), joined(&networks.sources)),
        (CLUSTER_ANNOTATION.to_owned(), joined(&networks.cluster)),
        (EGRESS_ANNOTATION.to_owned(), around.egress.as_str().to_owned()),
    ]
}

/// Whether the deployment of a peer with these annotations has a NetworkPolicy made in other surroundings. What was
/// taken over from others has no policy of ours.
pub(super) fn is_outdated(annotations: &BTreeMap<String, String>, around: &Surroundings) -> bool {
    let is_ours = annotations.contains_key(SOURCES_ANNOTATION);
    is_ours && noted(around).iter().any(|(name, now)| annotations.get(name) != Some(now))
}

/// The namespace of this name, to be deleted or looked at.
pub(super) fn namespace_named(name: &DeploymentName) -> Manifest {
    let metadata = ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() };
    manifest("", "v1", "Namespace", metadata, json!({}))
}

/// The peer of this name, to be deleted or looked at.
pub(super) fn peer_named(name: &DeploymentName) -> Manifest {
    let metadata = ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() };
    manifest(cluster::KILO_GROUP, cluster::KILO_VERSION, cluster::KILO_PEER_KIND, metadata, json!({}))
}

/// The binding that lets tier2 work in the namespace at all.
pub(super) fn own_binding(identity: &Identity, around: &Surroundings) -> Option<Manifest> {
    let (namespace, name) = around.own_account.as_ref()?;
    let subject = json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name });
    Some(binding(identity, "sinfonia-tier2", OWN_ROLE, &subject))
}

/// The binding that lets charts be installed.
pub(super) fn deployer_binding(identity: &Identity) -> Manifest {
    let subject = json!({ "kind": "ServiceAccount", "namespace": identity.name, "name": DEPLOYER });
    binding(identity, DEPLOYER, DEPLOYER, &subject)
}

/// Everything else in the namespace, in no order.
pub(super) fn furniture(identity: &Identity, resources: &ResourceLimits, around: &Surroundings) -> Vec<Manifest> {
    vec![
        service_account(identity, DEPLOYER),
        // Pods that name no account get this one; without a token, unless the chart's pod asks for it.
        service_account(identity, "default"),
        network_policy(identity, around),
        quota(identity, resources),
        limit_range(identity, resources),
        no_system_priority(identity),
    ]
}

fn service_account(identity: &Identity, name: &str) -> Manifest {
    manifest("", "v1", "ServiceAccount", inside(identity, name), json!({ "automountServiceAccountToken": false }))
}

fn binding(identity: &Identity, name: &str, role: &str, subject: &Value) -> Manifest {
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role });
    let body = json!({ "roleRef": role, "subjects": [subject] });
    manifest("rbac.authorization.k8s.io", "v1", "RoleBinding", inside(identity, name), body)
}

pub(super) fn network_policy(identity: &Identity, around: &Surroundings) -> Manifest {
    let spec = policy::spec(&identity.addresses, around.egress, &around.networks);
    manifest("networking.k8s.io", "v1", "NetworkPolicy", inside(identity, "sinfonia"), json!({ "spec": spec }))
}

/// What a deployment may use if its recipe says nothing.
const DEFAULT_QUOTA: [(&str, &str); 4] =
    [("pods", "20"), ("limits.cpu", "8"), ("limits.memory", "16Gi"), ("requests.storage", "20Gi")];
const DEFAULT_LIMITS: [(&str, &str); 2] = [("cpu", "1"), ("memory", "512Mi")];
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "50m"), ("memory", "64Mi")];

/// The disk of a node, which other deployments and the node itself need.
const DISK: &str = "ephemeral-storage";
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// What a container may fill of it, and all of a deployment, bytes.
const DISK_OF_CONTAINER: f64 = GIB;
const DISK_OF_DEPLOYMENT: f64 = 20.0 * GIB;

/// No recipe leaves out, by naming other amounts, the disk and the ways past the tunnel.
fn quota(identity: &Identity, resources: &ResourceLimits) -> Manifest {
    let (_, disk) = disk_limits(resources);
    let always = [("services.nodeports", "0"), ("services.loadbalancers", "0"), ("limits.ephemeral-storage", &*disk)];
    let hard = amounts(resources.quota.as_ref(), &DEFAULT_QUOTA, &always);
    let body = json!({ "spec": { "hard": hard } });
    manifest("", "v1", "ResourceQuota", inside(identity, "sinfonia"), body)
}

/// The classes that every cluster has would let a chart's pods push out the gateway and other deployments.
fn no_system_priority(identity: &Identity) -> Manifest {
    let classes = ["system-cluster-critical", "system-node-critical"];
    let scope = json!({ "scopeName": "PriorityClass", "operator": "In", "values": classes });
    let body = json!({ "spec": { "hard": { "pods": "0" }, "scopeSelector": { "matchExpressions": [scope] } } });
    manifest("", "v1", "ResourceQuota", inside(identity, "sinfonia-system-priority"), body)
}

/// A quota on limits refuses pods that state none, so there are defaults.
fn limit_range(identity: &Identity, resources: &ResourceLimits) -> Manifest {
    let (disk, _) = disk_limits(resources);
    let limits = amounts(resources.default_limits.as_ref(), &DEFAULT_LIMITS, &[(DISK, &disk)]);
    let requests = amounts(resources.default_requests.as_ref(), &DEFAULT_REQUESTS, &[(DISK, "10Mi")]);
    let limit = json!({ "type": "Container", "default": limits, "defaultRequest": requests });
    manifest("", "v1", "LimitRange", inside(identity, "sinfonia"), json!({ "spec": { "limits": [limit] } }))
}

/// What a container may fill of the disk unless it says so itself, and all of the deployment, where the recipe does not
/// say: never less than what the recipe's other amounts need.
fn disk_limits(resources: &ResourceLimits) -> (String, String) {
    let given = |amounts: Option<&BTreeMap<String, Quantity>>, name| amount(&amounts?.get(name)?.to_string());
    let request = given(resources.default_requests.as_ref(), DISK).unwrap_or_default();
    let limit = given(resources.default_limits.as_ref(), DISK).unwrap_or(DISK_OF_CONTAINER.max(request));
    let pods = given(resources.quota.as_ref(), "pods").unwrap_or(1.0);
    let shown = |bytes: f64| if bytes % GIB == 0.0 { format!("{}Gi", bytes / GIB) } else { format!("{bytes:.0}") };
    (shown(limit), shown(DISK_OF_DEPLOYMENT.max(limit * pods)))
}

/// What the recipe gives or else `default`, and in any case `always`.
fn amounts(
    given: Option<&BTreeMap<String, Quantity>>,
    default: &[(&str, &str)],
    always: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let owned = |&(name, amount): &(&str, &str)| (name.to_owned(), amount.to_owned());
    let mut amounts: BTreeMap<String, String> = match given {
        Some(given) => given.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect(),
        None => default.iter().map(owned).collect(),
    };
    for (name, amount) in always.iter().map(owned) {
        amounts.entry(name).or_insert(amount);
    }
    amounts
}

/// The labels that existing tools know.
pub(super) fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (cluster::LABEL.to_owned(), cluster::DEPLOYMENT.to_owned()),
        (cluster::UUID_LABEL.to_owned(), identity.id.application.to_string()),
        (cluster::KEY_LABEL.to_owned(), cluster::key_label(&identity.id.key)),
    ]);
    if let Some(address) = identity.addresses.iter().find(|address| matches!(address, IpAddr::V4(_))) {
        labels.insert(cluster::CLIENT_LABEL.to_owned(), address.to_string());
    }
    labels
}

/// Metadata of what has the deployment's name and goes when its object goes.
fn owned(
    owner: &CloudletDeployment,
    identity: &Identity,
    labels: BTreeMap<String, String>,
    around: &Surroundings,
) -> ObjectMeta {
    let created = identity.created.format(&Rfc3339).unwrap_or_default().replace('Z', "+00:00");
    let mut annotations = BTreeMap::from([(cluster::CREATED_ANNOTATION.to_owned(), created)]);
    if let Some(traceparent) = &around.traceparent {
        annotations.insert(cluster::TRACEPARENT_ANNOTATION.to_owned(), traceparent.clone());
    }
    ObjectMeta {
        name: Some(identity.name.to_string()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: kube::Resource::controller_owner_ref(owner, &()).map(|reference| vec![reference]),
        ..ObjectMeta::default()
    }
}

fn inside(identity: &Identity, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(identity.name.to_string()),
        labels: Some(BTreeMap::from([(cluster::LABEL.to_owned(), cluster::DEPLOYMENT.to_owned())])),
        ..ObjectMeta::default()
    }
}

fn manifest(group: &str, version: &str, kind: &str, metadata: ObjectMeta, data: Value) -> Manifest {
    let api = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let types = TypeMeta { api_version: api.api_version.clone(), kind: kind.to_owned() };
    Manifest { object: DynamicObject { types: Some(types), metadata, data }, api }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(in crate::kubernetes) fn identity() -> Identity {
        Identity {
            id: DeploymentId { application: sinfonia_wire::ApplicationId::HELLOWORLD, key: [7; 32].into() },
            name: "small-cat".parse().unwrap(),
            addresses: vec!["10.5.0.9".parse().unwrap()],
            created: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(in crate::kubernetes) fn around(networks: Networks) -> Surroundings {
        Surroundings {
            own_account: None,
            pod_security: PodSecurity::Baseline,
            egress: Egress::Internet,
            networks,
            traceparent: None,
        }
    }

    fn limits(yaml: &str) -> (Value, Value) {
        let recipe = format!("chart: c\nversion: 0.1.0\nrestricted: false\nresources: {yaml}\n");
        let (recipe, _) = sinfonia_recipes::parse(&recipe, "a recipe").unwrap();
        let (identity, resources) = (identity(), &recipe.resources);
        let limit = limit_range(&identity, resources).object.data["spec"]["limits"][0].clone();
        (quota(&identity, resources).object.data["spec"]["hard"].clone(), limit)
    }

    #[test]
    fn a_backend_cannot_fill_its_nodes_disk_whatever_else_the_recipe_limits() {
        for recipe in ["{}", "{quota: {pods: '3'}, default_limits: {memory: 1Gi}, default_requests: {cpu: 1}}"] {
            let (quota, limit) = limits(recipe);
            assert_eq!(quota["limits.ephemeral-storage"], "20Gi", "{recipe}");
            // Without a default the quota would refuse pods that state none.
            assert_eq!(limit["default"]["ephemeral-storage"], "1Gi", "{recipe}");
            assert_eq!(limit["defaultRequest"]["ephemeral-storage"], "10Mi", "{recipe}");
        }
        let (quota, limit) =
            limits("{quota: {limits.ephemeral-storage: 100Gi}, default_limits: {ephemeral-storage: 50Gi}}");
        assert_eq!(quota["limits.ephemeral-storage"], "100Gi");
        assert_eq!(limit["default"], json!({ "ephemeral-storage": "50Gi" }));
        assert_eq!((&quota["services.nodeports"], &quota["services.loadbalancers"]), (&json!("0"), &json!("0")));
        assert_eq!(quota.get("pods"), None);
    }

    #[test]
    fn one_amount_of_disk_in_a_recipe_goes_with_those_it_does_not_name() {
        for (recipe, of_container, of_deployment) in [
            // A default limit below the default request would be refused.
            ("{default_requests: {ephemeral-storage: 2Gi}}", "2Gi", "20Gi"),
            ("{default_requests: {ephemeral-storage: 1.5Gi}}", "1610612736", "20Gi"),
            ("{default_limits: {ephemeral-storage: 50Gi}}", "50Gi", "50Gi"),
            ("{quota: {pods: 40}}", "1Gi", "40Gi"),
            ("{quota: {pods: 4}, default_limits: {ephemeral-storage: 8Gi}}", "8Gi", "32Gi"),
        ] {
            let (quota, limit) = limits(recipe);
            assert_eq!(limit["default"]["ephemeral-storage"], of_container, "{recipe}");
            assert_eq!(quota["limits.ephemeral-storage"], of_deployment, "{recipe}");
        }
    }

    #[test]
    fn only_policies_of_ours_can_be_outdated() {
        let around = |cluster: &[&str], egress| {
            let cluster = cluster.iter().map(|network| network.parse().unwrap()).collect();
            Surroundings { egress, ..around(Networks { cluster, ..Networks::default() }) }
        };
        let now = around(&["198.51.100.0/24"], Egress::Internet);
        let mut annotations = BTreeMap::from(noted(&now));
        assert!(!is_outdated(&annotations, &now));
        assert!(is_outdated(&annotations, &around(&[], Egress::Internet)));
        assert!(is_outdated(&annotations, &around(&["198.51.100.0/24"], Egress::None)));
        annotations.remove(CLUSTER_ANNOTATION);
        assert!(is_outdated(&annotations, &now), "made by a tier2 that kept backends off nothing");
        assert!(!is_outdated(&BTreeMap::new(), &now), "taken over");
    }
}
