//! What the API server refuses by rights, quota, Pod Security or admission.

use super::REASON_LIMIT;
use crate::kubernetes::{helm::HelmError, text};

/// Kinds of the resources that charts are most often refused; others are named by their resource.
const KINDS: [(&str, &str); 25] = [
    ("clusterrolebindings", "ClusterRoleBinding"),
    ("clusterroles", "ClusterRole"),
    ("configmaps", "ConfigMap"),
    ("cronjobs", "CronJob"),
    ("customresourcedefinitions", "CustomResourceDefinition"),
    ("daemonsets", "DaemonSet"),
    ("deployments", "Deployment"),
    ("endpoints", "Endpoints"),
    ("endpointslices", "EndpointSlice"),
    ("ingresses", "Ingress"),
    ("jobs", "Job"),
    ("limitranges", "LimitRange"),
    ("namespaces", "Namespace"),
    ("networkpolicies", "NetworkPolicy"),
    ("nodes", "Node"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
    ("persistentvolumes", "PersistentVolume"),
    ("pods", "Pod"),
    ("resourcequotas", "ResourceQuota"),
    ("rolebindings", "RoleBinding"),
    ("roles", "Role"),
    ("secrets", "Secret"),
    ("serviceaccounts", "ServiceAccount"),
    ("services", "Service"),
    ("statefulsets", "StatefulSet"),
];

/// The error, if it is a refusal. Of several the first counts.
pub(super) fn refusal(words: &str) -> Option<HelmError> {
    let (before, after) = words.split_once(" is forbidden: ").or_else(|| words.split_once(" denied the request: "))?;
    let object = object(words, before);
    let first = after.lines().next().unwrap_or(after);
    if let Some((_, violation)) = first.split_once("violates PodSecurity ") {
        return Some(HelmError::PodSecurity { object, reason: text::line(violation, REASON_LIMIT) });
    }
    if first.contains("exceeded quota: ") || first.contains("failed quota: ") {
        return Some(HelmError::Quota { object, reason: text::line(first, REASON_LIMIT) });
    }
    if first.contains("is attempting to grant RBAC permissions not currently held") {
        let rights: Vec<&str> = after.lines().skip(1).take_while(|line| line.starts_with('{')).collect();
        let reason = format!("it would grant rights that charts do not have: {}", rights.join(", "));
        return Some(HelmError::Forbidden { object, reason: text::line(&reason, REASON_LIMIT) });
    }
    let (object, reason) = match Denied::parse(first) {
        Some(denied) => (denied.placed(object), denied.reason()),
        // The account's name tells nobody anything.
        None => (object, first.to_owned()),
    };
    Some(HelmError::Forbidden { object: text::line(&object, REASON_LIMIT), reason: text::line(&reason, REASON_LIMIT) })
}

/// `User "system:serviceaccount:NS:sinfonia-deployer" cannot VERB resource "R" in API group "G" in the namespace "N"`.
struct Denied<'a> {
    own: &'a str,
    verb: &'a str,
    resource: &'a str,
    /// None for the whole cluster.
    namespace: Option<&'a str>,
}

impl<'a> Denied<'a> {
    fn parse(words: &'a str) -> Option<Self> {
        Some(Self {
            own: text::between(words, "\"system:serviceaccount:", ":")?,
            verb: text::between(words, " cannot ", " resource ")?,
            resource: text::between(words, " resource \"", "\"")?,
            namespace: text::between(words, " in the namespace \"", "\""),
        })
    }

    fn is_elsewhere(&self) -> bool {
        // The API server takes a Namespace to be within itself.
        self.namespace.is_some_and(|namespace| namespace != self.own) && self.resource != "namespaces"
    }

    fn placed(&self, object: String) -> String {
        match self.namespace {
            Some(namespace) if self.is_elsewhere() => format!("{object} in namespace \"{namespace}\""),
            _ => object,
        }
    }

    fn reason(&self) -> String {
        if self.is_elsewhere() {
            return "charts have to stay in their deployment's own namespace".to_owned();
        }
        if self.namespace.is_none() || self.resource == "namespaces" {
            return "it would have effect in the whole cluster".to_owned();
        }
        // Helm looks whether an object is there before it makes it.
        let verb = if self.verb == "get" { "create" } else { self.verb };
        format!("charts may not {verb} {}", self.resource)
    }
}

/// Kind and name: in Helm's words if it says them, else from the API server's `roles.rbac.authorization.k8s.io "x"`.
fn object(words: &str, before: &str) -> String {
    if let Some(named) = text::between(words, "could not get information about the resource ", " in namespace ") {
        return text::line(named, REASON_LIMIT);
    }
    let subject = before.lines().last().unwrap_or(before);
    let (subject, name) = match subject.strip_suffix('"').and_then(|start| start.rsplit_once(" \"")) {
        Some((subject, name)) => (subject, format!(" \"{name}\"")),
        None => (subject, String::new()),
    };
    let resource = subject.rsplit(' ').next().unwrap_or(subject);
    let plural = resource.split('.').next().unwrap_or(resource);
    let kind = KINDS.iter().find(|(resource, _)| *resource == plural).map_or(plural, |(_, kind)| kind);
    text::line(&format!("{kind}{name}"), REASON_LIMIT)
}
