//! Namespaces of deployments that do not end, as those in which an object keeps a finalizer. They hold up nothing but
//! their name; people are told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, core::DynamicObject, runtime::events::EventType};
use serde_json::Value;

use super::Operator;
use crate::kubernetes::{objects, text};

/// How long a namespace may take to end before that is said; its pods have 30 s, unless they want more.
const LONG: Duration = Duration::from_secs(300);

/// The longest reason, characters.
const REASON_LIMIT: usize = 600;

/// What was said of namespaces that do not end, by their names.
#[derive(Default)]
pub(super) struct Said(Mutex<BTreeMap<String, String>>);

impl Operator {
    /// Says which namespaces do not end and why, each reason once.
    pub(super) fn look_after_endings(&self) {
        let now = Timestamp::now();
        let endless: Vec<_> = self.namespaces.state().into_iter().filter(|found| is_endless(found, now)).collect();
        self.parts.endless.store(endless.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let mut said = self.endings.0.lock().unwrap_or_else(PoisonError::into_inner);
        let present = endless.iter().map(|found| (found.name_any(), reason(found))).collect::<BTreeMap<_, _>>();
        for found in &endless {
            let name = found.name_any();
            let reason = &present[&name];
            if said.get(&name) != Some(reason) {
                tracing::warn!(namespace = name, reason, "the namespace of a deployment does not end");
                let reference = kube::Resource::object_ref(found.as_ref(), &objects::namespace_kind());
                self.tell_of(reference, EventType::Warning, "DoesNotEnd", format!("it does not end: {reason}"));
            }
        }
        *said = present;
    }
}

/// Whether its end has taken longer than it should.
fn is_endless(namespace: &DynamicObject, now: Timestamp) -> bool {
    let since = namespace.metadata.deletion_timestamp.as_ref();
    since.is_some_and(|since| now.duration_since(since.0).unsigned_abs() >= LONG && now > since.0)
}

/// What Kubernetes says it waits for.
fn reason(namespace: &DynamicObject) -> String {
    let conditions = namespace.data.pointer("/status/conditions").and_then(Value::as_array);
    let holding = conditions.into_iter().flatten().filter(|condition| condition["status"] == "True");
    let reasons: Vec<&str> = holding.filter_map(|condition| condition["message"].as_str()).collect();
    match reasons[..] {
        [] => "Kubernetes does not say why".to_owned(),
        _ => text::line(&reasons.join("; "), REASON_LIMIT),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_that_a_finalizer_holds_is_found_after_a_while() {
        let now = Timestamp::now();
        let namespace = |since: Option<Duration>| {
            let mut namespace = DynamicObject::new("small-cat", &objects::namespace_kind());
            let since = since.map(|ago| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now - ago));
            namespace.metadata = ObjectMeta { deletion_timestamp: since, ..namespace.metadata };
            namespace
        };
        assert!(!is_endless(&namespace(None), now));
        assert!(!is_endless(&namespace(Some(LONG - Duration::from_secs(1))), now));
        assert!(is_endless(&namespace(Some(LONG)), now));
    }

    #[test]
    fn the_reason_is_what_kubernetes_says() {
        let mut namespace = DynamicObject::new("small-cat", &objects::namespace_kind());
        assert_eq!(reason(&namespace), "Kubernetes does not say why");
        let content = "Some resources are remaining: configmaps. has 1 resource instances";
        let finalizers =
            "Some content in the namespace has finalizers remaining: example.org/x in 1 resource instances";
        namespace.data = json!({ "status": { "conditions": [
            { "type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "All resources were discovered" },
            { "type": "NamespaceContentRemaining", "status": "True", "message": content },
            { "type": "NamespaceFinalizersRemaining", "status": "True", "message": finalizers },
        ] } });
        assert_eq!(reason(&namespace), format!("{content}; {finalizers}"));
    }
}
