//! How far each kind of workload is, from its own status: what `kubectl rollout status` looks at.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    objects::{Snapshot, controller, is_own},
    reason::Reason,
};
use crate::kubernetes::text;

/// The longest quotation of somebody's words, characters.
pub(super) const REASON_LIMIT: usize = 300;

/// A workload of the release.
pub(super) struct Workload<'a> {
    /// Kind and name.
    pub(super) name: String,
    pub(super) state: State,
    pub(super) pods: Vec<&'a Pod>,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Available,
    /// As the rest of "waiting for deployment web: ".
    Behind(String),
    /// Its pods are refused, which may pass.
    Refused(Reason),
    Failed(Reason),
}

/// Everything in the namespace that has to be available.
pub(super) fn workloads(snapshot: &Snapshot) -> Vec<Workload<'_>> {
    let mut all = Vec::new();
    for (name, deployment) in own(&snapshot.deployments) {
        let pods = snapshot.pods_of(|pod, owner| owner.kind == "ReplicaSet" && is_of(pod, &owner.name, deployment));
        all.push(workload("deployment", name, pods, |name| self::deployment(name, deployment)));
    }
    for (name, set) in own(&snapshot.stateful_sets) {
        let state = |name: &str| refused(snapshot, &set.metadata, name, stateful_set(set));
        all.push(workload("statefulset", name, owned_by(snapshot, &set.metadata), state));
    }
    for (name, set) in own(&snapshot.daemon_sets) {
        let state = |name: &str| refused(snapshot, &set.metadata, name, daemon_set(set));
        all.push(workload("daemonset", name, owned_by(snapshot, &set.metadata), state));
    }
    for (name, set) in own(&snapshot.replica_sets) {
        let state = |name: &str| refused(snapshot, &set.metadata, name, replica_set(set));
        all.push(workload("replicaset", name, owned_by(snapshot, &set.metadata), state));
    }
    for (name, job) in own(&snapshot.jobs) {
        let state = |name: &str| refused(snapshot, &job.metadata, name, self::job(name, job));
        all.push(workload("job", name, owned_by(snapshot, &job.metadata), state));
    }
    for (name, pod) in own(&snapshot.pods) {
        all.push(workload("pod", name, vec![pod], |_| bare_pod(pod)));
    }
    all
}

fn own<K: kube::Resource>(objects: &std::collections::BTreeMap<String, K>) -> impl Iterator<Item = (&String, &K)> {
    objects.iter().filter(|(_, object)| is_own(object.meta()))
}

fn workload<'a>(kind: &str, name: &str, pods: Vec<&'a Pod>, state: impl FnOnce(&str) -> State) -> Workload<'a> {
    let name = format!("{kind} {name}");
    Workload { state: state(&name), name, pods }
}

fn owned_by<'a>(snapshot: &'a Snapshot, metadata: &ObjectMeta) -> Vec<&'a Pod> {
    snapshot.pods_of(|_, owner| Some(&owner.uid) == metadata.uid.as_ref())
}

/// A Deployment's pods belong to a ReplicaSet named after it. Those of an earlier Deployment of the same name are older
/// than this one.
fn is_of(pod: &Pod, replica_set: &str, deployment: &Deployment) -> bool {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let hash = replica_set.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    hash.is_some_and(|hash| !hash.contains('-'))
        && pod.metadata.creation_timestamp >= deployment.metadata.creation_timestamp
}

fn deployment(name: &str, deployment: &Deployment) -> State {
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
    let condition = |kind: &str| {
        status.and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind))
    };
    if let Some(failure) = condition("ReplicaFailure").filter(|failure| failure.status == "True") {
        return refusal(name, failure.message.as_deref().unwrap_or_default());
    }
    if let Some(stuck) = condition("Progressing")
        && stuck.reason.as_deref() == Some("ProgressDeadlineExceeded")
    {
        let reason = text::line(stuck.message.as_deref().unwrap_or_default(), REASON_LIMIT);
        return State::Failed(Reason::Stuck { workload: name.to_owned(), reason });
    }
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let count =
        |field: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| status.and_then(field).unwrap_or(0);
    let (updated, available) = (count(|status| status.updated_replicas), count(|status| status.available_replicas));
    let observed = status.and_then(|status| status.observed_generation) >= deployment.metadata.generation;
    let old = count(|status| status.replicas) > updated;
    available_if(observed && updated >= wanted && !old && available >= updated, available, wanted)
}

fn stateful_set(set: &StatefulSet) -> State {
    let (spec, status) = (set.spec.as_ref(), set.status.as_ref());
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let observed = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
    let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
    let rolled = status.is_none_or(|status| {
        status.update_revision == status.current_revision || status.updated_replicas.unwrap_or(0) >= wanted
    });
    available_if(observed && rolled && available >= wanted, available, wanted)
}

fn daemon_set(set: &DaemonSet) -> State {
    let Some(status) = &set.status else { return State::Behind("it is new".to_owned()) };
    let (wanted, available) = (status.desired_number_scheduled, status.number_available.unwrap_or(0));
    let observed = status.observed_generation >= set.metadata.generation;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    available_if(observed && updated >= wanted && available >= wanted, available, wanted)
}

fn replica_set(set: &ReplicaSet) -> State {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = set.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
    let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
    available_if(observed && available >= wanted, available, wanted)
}

/// A Job is available when it is done or at work: some backends are Jobs.
fn job(name: &str, job: &Job) -> State {
    let Some(status) = &job.status else { return State::Behind("it is new".to_owned()) };
    let condition = |kind: &str| {
        status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if let Some(failed) = condition("Failed").or_else(|| condition("FailureTarget")) {
        let words = failed.message.as_deref().or(failed.reason.as_deref()).unwrap_or_default();
        let reason = text::line(words, REASON_LIMIT);
        let (workload, output) = (name.to_owned(), String::new());
        return State::Failed(Reason::JobFailed { workload, culprit: None, reason, output });
    }
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false);
    let at_work = status.ready.unwrap_or(0) > 0 || status.succeeded.unwrap_or(0) > 0;
    if suspended || at_work || condition("Complete").is_some() {
        return State::Available;
    }
    State::Behind("no pod of it runs".to_owned())
}

fn bare_pod(pod: &Pod) -> State {
    let Some(status) = &pod.status else { return State::Behind("it is new".to_owned()) };
    let ready =
        status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if ready || status.phase.as_deref() == Some("Succeeded") {
        return State::Available;
    }
    State::Behind("it is not ready".to_owned())
}

fn available_if(available: bool, count: i32, wanted: i32) -> State {
    if available { State::Available } else { State::Behind(format!("{count} of {wanted} available")) }
}

/// Controllers other than Deployments tell only by events that the API server refuses their pods.
fn refused(snapshot: &Snapshot, metadata: &ObjectMeta, name: &str, state: State) -> State {
    match (state, snapshot.event(metadata, &["FailedCreate"])) {
        // A pod that was made after all is told of by events too.
        (State::Behind(behind), Some(_)) if !owned_by(snapshot, metadata).is_empty() => State::Behind(behind),
        (State::Behind(_), Some(event)) => refusal(name, event.message.as_deref().unwrap_or_default()),
        (state, _) => state,
    }
}

/// What the API server says about pods that it does not take.
fn refusal(name: &str, message: &str) -> State {
    let workload = name.to_owned();
    let words = message.split_once(" is forbidden: ").map_or(message, |(_, words)| words);
    let reason = text::line(words, REASON_LIMIT);
    if let Some((_, violation)) = words.split_once("violates PodSecurity ") {
        let reason = text::line(violation, REASON_LIMIT);
        return State::Failed(Reason::PodSecurity { workload, reason });
    }
    if words.contains("exceeded quota: ") || words.contains("failed quota: ") || words.contains("usage per Pod is") {
        return State::Refused(Reason::Quota { workload, reason });
    }
    State::Refused(Reason::NoPods { workload, reason })
}

/// Whether the pod is that of a controller at all; bare pods answer for themselves.
pub(super) fn is_controlled(pod: &Pod) -> bool {
    controller(&pod.metadata).is_some()
}
