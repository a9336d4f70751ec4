//! What tier2 may do, and has to be allowed to: the rules of `deploy/kubernetes/tier2.yaml`, as data.

/// Where a permission holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// In the whole cluster.
    Cluster,
    /// In tier2's own namespace.
    Own,
    /// In this namespace.
    Namespace(&'static str),
    /// In each deployment's namespace, by a binding that tier2 makes there.
    Deployment,
}

/// Verbs on resources.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    /// Where.
    pub(crate) scope: Scope,
    /// API group.
    pub(crate) group: &'static str,
    /// Plural names, with `/subresource`.
    pub(crate) resources: &'static [&'static str],
    /// Names of objects; any if empty.
    pub(crate) names: &'static [&'static str],
    /// Verbs.
    pub(crate) verbs: &'static [&'static str],
}

impl Permission {
    const fn new(
        scope: Scope,
        group: &'static str,
        resources: &'static [&'static str],
        verbs: &'static [&'static str],
    ) -> Self {
        Self { scope, group, resources, names: &[], verbs }
    }

    const fn only(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }
}

/// ClusterRole of what charts may contain.
pub(crate) const DEPLOYER_ROLE: &str = "sinfonia-deployer";
/// ClusterRole of what tier2 may do in a deployment's namespace.
pub(crate) const NAMESPACE_ROLE: &str = "sinfonia-tier2-namespace";

const RBAC: &str = "rbac.authorization.k8s.io";
const OBJECTS: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const FOLLOW: &[&str] = &["list", "watch"];
const MAKE: &[&str] = &["create", "patch"];

/// All of them.
pub(crate) const PERMISSIONS: &[Permission] = &[
    Permission::new(Scope::Cluster, "findcloudlet.org", &["cloudletdeployments"], OBJECTS),
    Permission::new(Scope::Cluster, "findcloudlet.org", &["cloudletdeployments/status"], &["patch"]),
    Permission::new(Scope::Cluster, "findcloudlet.org", &["cloudletdeployments/finalizers"], &["update"]),
    Permission::new(Scope::Cluster, "kilo.squat.ai", &["peers"], OBJECTS),
    Permission::new(Scope::Cluster, "", &["namespaces"], OBJECTS),
    Permission::new(Scope::Cluster, RBAC, &["rolebindings"], MAKE),
    Permission::new(Scope::Cluster, RBAC, &["clusterroles"], &["bind"]).only(&[DEPLOYER_ROLE, NAMESPACE_ROLE]),
    Permission::new(Scope::Cluster, "", &["nodes"], &["list"]),
    Permission::new(Scope::Cluster, "", &["nodes/stats"], &["get"]),
    Permission::new(Scope::Cluster, "networking.k8s.io", &["servicecidrs"], &["list"]),
    Permission::new(Scope::Cluster, "metrics.k8s.io", &["nodes"], &["list"]),
    Permission::new(Scope::Cluster, "", &["services"], &["get"]).only(&["kube-prometheus-stack-prometheus"]),
    Permission::new(Scope::Deployment, "", &["limitranges", "resourcequotas", "serviceaccounts"], MAKE),
    Permission::new(Scope::Deployment, "networking.k8s.io", &["networkpolicies"], MAKE),
    Permission::new(Scope::Deployment, "", &["serviceaccounts/token"], &["create"]),
    Permission::new(Scope::Deployment, "", &["events", "pods", "services"], FOLLOW),
    Permission::new(Scope::Deployment, "", &["pods/log"], &["get"]),
    Permission::new(Scope::Deployment, "apps", &["daemonsets", "deployments", "replicasets", "statefulsets"], FOLLOW),
    Permission::new(Scope::Deployment, "batch", &["jobs"], FOLLOW),
    Permission::new(
        Scope::Own,
        "coordination.k8s.io",
        &["leases"],
        &["get", "list", "watch", "create", "patch", "update"],
    ),
    Permission::new(Scope::Namespace("kube-system"), "", &["services"], &["get"]).only(&["kube-dns"]),
    Permission::new(Scope::Namespace("kube-system"), "discovery.k8s.io", &["endpointslices"], &["list"]),
    Permission::new(Scope::Namespace("default"), "discovery.k8s.io", &["endpointslices"], &["get"])
        .only(&["kubernetes"]),
    Permission::new(Scope::Namespace("default"), "events.k8s.io", &["events"], MAKE),
];

/// One verb on one resource, perhaps of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    pub(crate) scope: Scope,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) name: Option<&'static str>,
    pub(crate) verb: &'static str,
}

/// All of them, one by one.
pub(crate) fn rights() -> impl Iterator<Item = Right> {
    PERMISSIONS.iter().flat_map(|permission| {
        let Permission { scope, group, resources, names, verbs } = *permission;
        let names = if names.is_empty() { vec![None] } else { names.iter().copied().map(Some).collect() };
        let each = resources.iter().flat_map(move |&resource| verbs.iter().map(move |&verb| (resource, verb)));
        each.flat_map(move |(resource, verb)| {
            names.clone().into_iter().map(move |name| Right { scope, group, resource, name, verb })
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const MANIFEST: &str = include_str!("../../../deploy/kubernetes/tier2.yaml");

    /// As text, to be comparable with the manifest.
    fn in_table() -> BTreeSet<String> {
        let text = |right: Right| {
            let Right { scope, group, resource, name, verb } = right;
            let place = match scope {
                Scope::Cluster => "ClusterRole sinfonia-tier2".to_owned(),
                Scope::Deployment => format!("ClusterRole {NAMESPACE_ROLE}"),
                Scope::Own => "Role sinfonia-tier2 in sinfonia".to_owned(),
                Scope::Namespace(namespace) => format!("Role sinfonia-tier2 in {namespace}"),
            };
            format!("{place}: {verb} {group}/{resource} {}", name.unwrap_or("*"))
        };
        rights().map(text).collect()
    }

    fn texts<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
        rule[field].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    fn in_manifest() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for document in serde_saphyr::from_multiple::<Value>(MANIFEST).unwrap() {
            let (kind, name) = (document["kind"].as_str().unwrap(), document["metadata"]["name"].as_str().unwrap());
            let place = match document["metadata"]["namespace"].as_str() {
                Some(namespace) => format!("{kind} {name} in {namespace}"),
                None => format!("{kind} {name}"),
            };
            for rule in document["rules"].as_array().into_iter().flatten() {
                let mut names = texts(rule, "resourceNames");
                if names.is_empty() {
                    names.push("*");
                }
                for group in texts(rule, "apiGroups") {
                    for resource in texts(rule, "resources") {
                        for verb in texts(rule, "verbs") {
                            found.extend(names.iter().map(|name| format!("{place}: {verb} {group}/{resource} {name}")));
                        }
                    }
                }
            }
        }
        found
    }

    #[test]
    fn the_manifest_grants_what_is_used_and_no_more() {
        let (table, manifest) = (in_table(), in_manifest());
        let missing: Vec<_> = table.difference(&manifest).collect();
        let superfluous: Vec<_> = manifest.difference(&table).collect();
        assert!(missing.is_empty() && superfluous.is_empty(), "missing {missing:#?}, superfluous {superfluous:#?}");
        assert!(!MANIFEST.contains("\"*\"]\n    verbs"));
        assert_eq!(table.len(), rights().count(), "nothing is listed twice");
    }
}
