use k8s_openapi::api::core::v1::Pod;

use super::{
    controllers::{State, Workload, workloads},
    objects::Snapshot,
    pods::{self, Verdict},
    reason::{Culprit, Reason},
};

/// Where a release stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assessment {
    /// Everything is available.
    Ready,
    /// Everything is available, but of some containers only because they run: ready if this lasts.
    Unproven {
        /// How often they have ended so far.
        restarts: i32,
    },
    /// Not yet; what is waited for, as the rest of a sentence that begins with "is".
    Waiting(String),
    /// Not yet, and never if this lasts.
    Doubtful(Reason),
    /// Never.
    Failed(Reason),
}

/// Judges by the statuses, the pods and the events of a namespace.
#[must_use]
pub fn assess(snapshot: &Snapshot) -> Assessment {
    let workloads = workloads(snapshot);
    let behind: Vec<&Workload<'_>> = workloads.iter().filter(|workload| workload.state != State::Available).collect();
    let Some(first) = behind.first() else { return available(&workloads) };
    let judged: Vec<Judged> = behind.iter().map(|workload| judge(snapshot, workload)).collect();
    if let Some(reason) = judged.iter().find_map(Judged::failed) {
        return Assessment::Failed(reason.clone());
    }
    // What ends again and again may only need a part that is not up yet.
    let starting = judged.iter().any(|judged| matches!(judged, Judged::Behind(_)));
    if let (false, Some(reason)) = (starting, judged.iter().find_map(Judged::failed_alone)) {
        return Assessment::Failed(reason.clone());
    }
    if let Some(reason) = judged.iter().find_map(Judged::doubtful) {
        return Assessment::Doubtful(reason.clone());
    }
    let words = judged.iter().find_map(|judged| if let Judged::Behind(words) = judged { Some(words) } else { None });
    let words = words.cloned().unwrap_or_else(|| format!("{}: a container keeps ending", first.name));
    Assessment::Waiting(match behind.len() {
        1 => format!("waiting for {words}"),
        more => format!("waiting for {words}, and for {} more", more - 1),
    })
}

/// Without a readiness probe a container is available from its start to its end, however soon that comes.
fn available(workloads: &[Workload<'_>]) -> Assessment {
    let unproven = workloads.iter().flat_map(|workload| &workload.pods).filter(|pod| pods::is_unproven(pod));
    let restarts = unproven.map(|pod| pods::restarts(pod)).reduce(|one, other| one.saturating_add(other));
    restarts.map_or(Assessment::Ready, |restarts| Assessment::Unproven { restarts })
}

/// A workload that is not available.
enum Judged {
    Failed(Reason),
    FailedAlone(Reason),
    Doubtful(Reason),
    Behind(String),
}

impl Judged {
    fn failed(&self) -> Option<&Reason> {
        if let Self::Failed(reason) = self { Some(reason) } else { None }
    }

    fn failed_alone(&self) -> Option<&Reason> {
        if let Self::FailedAlone(reason) = self { Some(reason) } else { None }
    }

    fn doubtful(&self) -> Option<&Reason> {
        if let Self::Doubtful(reason) = self { Some(reason) } else { None }
    }
}

fn judge(snapshot: &Snapshot, workload: &Workload<'_>) -> Judged {
    let behind = match &workload.state {
        State::Available => "",
        State::Behind(behind) => behind,
        State::Refused(reason) => return Judged::Doubtful(reason.clone()),
        State::Failed(reason) => return Judged::Failed(with_culprit(reason.clone(), &workload.pods)),
    };
    let (mut alone, mut doubtful, mut doing) = (None, None, None);
    for pod in workload.pods.iter().filter(|pod| !is_ready(pod)) {
        match pods::verdict(snapshot, pod, &workload.name) {
            Verdict::Failed(reason) => return Judged::Failed(reason),
            Verdict::FailedAlone(reason) => alone = alone.or(Some(reason)),
            Verdict::Doubtful(reason) => doubtful = doubtful.or(Some(reason)),
            Verdict::Fine(words) => doing = doing.or(Some(words).filter(|words| !words.is_empty())),
        }
    }
    if let Some(reason) = alone {
        return Judged::FailedAlone(reason);
    }
    if let Some(reason) = doubtful {
        return Judged::Doubtful(reason);
    }
    let doing = doing.map(|doing| format!(" ({doing})")).unwrap_or_default();
    Judged::Behind(format!("{}: {behind}{doing}", workload.name))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A failed Job is explained by the newest of its pods that failed.
fn with_culprit(mut reason: Reason, pods: &[&Pod]) -> Reason {
    if let Reason::JobFailed { culprit, .. } = &mut reason {
        let failed = pods.iter().filter_map(|pod| Some((pod, pods::failed_container(pod.status.as_ref()?)?)));
        let newest = failed.max_by_key(|(pod, _)| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        *culprit = newest.map(|(pod, container)| Culprit {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            container: container.name.clone(),
        });
    }
    reason
}
