//! What is in a namespace.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{Event, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

/// A namespace's workloads, pods and events, by name.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the names are those of Kubernetes")]
pub struct Snapshot {
    pub deployments: BTreeMap<String, Deployment>,
    pub stateful_sets: BTreeMap<String, StatefulSet>,
    pub daemon_sets: BTreeMap<String, DaemonSet>,
    pub replica_sets: BTreeMap<String, ReplicaSet>,
    pub jobs: BTreeMap<String, Job>,
    pub pods: BTreeMap<String, Pod>,
    pub events: BTreeMap<String, Event>,
}

/// Marks objects that Helm itself runs and waits for.
const HOOK_ANNOTATION: &str = "helm.sh/hook";

impl Snapshot {
    /// The newest event about an object that has one of these reasons.
    pub(super) fn event(&self, about: &ObjectMeta, reasons: &[&str]) -> Option<&Event> {
        let uid = about.uid.as_deref()?;
        self.events
            .values()
            .filter(|event| event.involved_object.uid.as_deref() == Some(uid))
            .filter(|event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason)))
            .max_by_key(|event| time_of(event))
    }

    /// Why a claim of this name has no volume.
    pub(super) fn claim_failure(&self, claim: &str) -> Option<&str> {
        let about = self.events.values().filter(|event| {
            event.involved_object.kind.as_deref() == Some("PersistentVolumeClaim")
                && event.involved_object.name.as_deref() == Some(claim)
                && event.reason.as_deref() == Some("ProvisioningFailed")
        });
        about.max_by_key(|event| time_of(event))?.message.as_deref()
    }

    /// How often something with this reason, and this in its message, happened to an object.
    pub(super) fn times(&self, about: &ObjectMeta, reason: &str, message: &str) -> i32 {
        let about = self.events.values().filter(|event| {
            event.involved_object.uid.is_some()
                && event.involved_object.uid == about.uid
                && event.reason.as_deref() == Some(reason)
                && event.message.as_deref().unwrap_or_default().contains(message)
        });
        about.map(|event| event.count.or(event.series.as_ref().and_then(|series| series.count)).unwrap_or(1)).sum()
    }

    /// The pods of a controller that are not on their way out.
    pub(super) fn pods_of(&self, owned: impl Fn(&Pod, &OwnerReference) -> bool) -> Vec<&Pod> {
        let pods = self.pods.values().filter(|pod| is_live(&pod.metadata));
        pods.filter(|pod| controller(&pod.metadata).is_some_and(|owner| owned(pod, owner))).collect()
    }
}

/// Events of the same object are ordered by when they were last seen.
fn time_of(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    series
        .or(event.last_timestamp.as_ref().map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// What controls the object.
pub(super) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the release itself made the object: no hook, no part of another object, not going.
pub(super) fn is_own(metadata: &ObjectMeta) -> bool {
    let hook = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(HOOK_ANNOTATION));
    !hook && controller(metadata).is_none() && is_live(metadata)
}

fn is_live(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_none()
}
