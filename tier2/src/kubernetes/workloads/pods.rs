//! What is the matter with a pod.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::{
    controllers::{REASON_LIMIT, is_controlled},
    objects::Snapshot,
    reason::{Culprit, Reason},
};
use crate::kubernetes::text;

/// A container that has ended this often is not ill by chance.
const SURE_RESTARTS: i32 = 2;

/// So often it may end while other parts of the release, which it may need, are still starting.
const PATIENT_RESTARTS: i32 = 5;

/// A second attempt to pull fails 10 to 20 s after the first.
const SURE_PULLS: i32 = 2;

/// What registries say about images that will not appear by themselves.
const NO_SUCH_IMAGE: [&str; 5] =
    ["not found", "manifest unknown", "pull access denied", "insufficient_scope", "unsupported media type"];

/// A pod's condition, the worst first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Failed(Reason),
    /// It failed if nothing else of the release is still starting.
    FailedAlone(Reason),
    /// It failed if this lasts.
    Doubtful(Reason),
    /// What it is about, as the end of "0 of 1 available (...)"; empty if there is nothing to say.
    Fine(String),
}

/// The condition of a pod that is not available, of the workload with this name.
pub(super) fn verdict(snapshot: &Snapshot, pod: &Pod, workload: &str) -> Verdict {
    let Some(status) = &pod.status else { return Verdict::Fine(String::new()) };
    let view = View { snapshot, pod, status, workload };
    let containers = || {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    };
    if let Some(verdict) = view.unscheduled().or_else(|| containers().find_map(|container| view.trouble(container))) {
        return verdict;
    }
    if let Some(verdict) = view.over() {
        return verdict;
    }
    Verdict::Fine(view.doing())
}

struct View<'a> {
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    status: &'a PodStatus,
    workload: &'a str,
}

impl View<'_> {
    fn unscheduled(&self) -> Option<Verdict> {
        let condition = self.status.conditions.iter().flatten().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })?;
        let words = condition.message.as_deref().unwrap_or_default();
        // What preemption would do, which follows, is of no use to who reads it.
        let words = words.split(". ").next().unwrap_or(words).trim_end_matches('.');
        let workload = self.workload.to_owned();
        Some(Verdict::Doubtful(if words.to_ascii_lowercase().contains("persistentvolumeclaim") {
            let words = self.not_provisioned().unwrap_or(words);
            Reason::Volume { workload, reason: text::line(words, REASON_LIMIT) }
        } else {
            Reason::Unschedulable { workload, reason: text::line(words, REASON_LIMIT) }
        }))
    }

    /// What a provisioner says about a claim of this pod.
    fn not_provisioned(&self) -> Option<&str> {
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
        claims.into_iter().find_map(|claim| self.snapshot.claim_failure(&claim.claim_name))
    }

    fn trouble(&self, container: &ContainerStatus) -> Option<Verdict> {
        let state = container.state.as_ref()?;
        if state.terminated.is_some() {
            return self.crashes(container);
        }
        let waiting = state.waiting.as_ref()?;
        let words = waiting.message.as_deref().unwrap_or_default();
        match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" => Some(self.not_pulled(container, words)),
            "InvalidImageName" | "ErrImageNeverPull" => Some(Verdict::Failed(self.image(container, words))),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                let (workload, container) = (self.workload.to_owned(), container.name.clone());
                let reason = text::line(words, REASON_LIMIT);
                Some(Verdict::Doubtful(Reason::Container { workload, container, reason }))
            }
            "CrashLoopBackOff" => self.crashes(container),
            _ => None,
        }
    }

    fn not_pulled(&self, container: &ContainerStatus, words: &str) -> Verdict {
        let reason = self.image(container, words);
        let attempts = self.snapshot.times(&self.pod.metadata, "Failed", "Failed to pull image");
        if attempts >= SURE_PULLS || NO_SUCH_IMAGE.iter().any(|part| words.contains(part)) {
            return Verdict::Failed(reason);
        }
        Verdict::Doubtful(reason)
    }

    fn image(&self, container: &ContainerStatus, words: &str) -> Reason {
        let words = words.rsplit_once("ErrImagePull: ").map_or(words, |(_, words)| words);
        Reason::ImagePull {
            workload: self.workload.to_owned(),
            image: self.image_of(&container.name).unwrap_or(&container.image).to_owned(),
            reason: text::line(words, REASON_LIMIT),
        }
    }

    /// As the chart has it, which the status has not always.
    fn image_of(&self, name: &str) -> Option<&str> {
        let spec = self.pod.spec.as_ref()?;
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.find(|container| container.name == name)?.image.as_deref()
    }

    fn crashes(&self, container: &ContainerStatus) -> Option<Verdict> {
        if container.restart_count < SURE_RESTARTS {
            return None;
        }
        let reason = Reason::Crashes {
            workload: self.workload.to_owned(),
            culprit: self.culprit(&container.name),
            status: ended(container).map(describe).unwrap_or_default(),
            output: String::new(),
        };
        let sure = container.restart_count >= PATIENT_RESTARTS;
        Some(if sure { Verdict::Failed(reason) } else { Verdict::FailedAlone(reason) })
    }

    fn culprit(&self, container: &str) -> Culprit {
        Culprit { pod: self.pod.metadata.name.clone().unwrap_or_default(), container: container.to_owned() }
    }

    /// A bare pod that ended does not come again; that of a controller is replaced.
    fn over(&self) -> Option<Verdict> {
        if is_controlled(self.pod) || self.status.phase.as_deref() != Some("Failed") {
            return None;
        }
        let failed = failed_container(self.status);
        let words = || self.status.message.as_deref().or(self.status.reason.as_deref()).unwrap_or("it failed");
        Some(Verdict::Failed(Reason::Crashes {
            workload: self.workload.to_owned(),
            culprit: self.culprit(failed.map(|container| container.name.as_str()).unwrap_or_default()),
            status: failed.and_then(ended).map_or_else(|| text::line(words(), REASON_LIMIT), describe),
            output: String::new(),
        }))
    }

    fn doing(&self) -> String {
        let behind = |container: &&ContainerStatus| !container.ready;
        let init = self.status.init_container_statuses.iter().flatten().find(behind);
        let Some(container) = init.or_else(|| self.status.container_statuses.iter().flatten().find(behind)) else {
            return if self.status.container_statuses.is_none() {
                "not on a node yet".to_owned()
            } else {
                String::new()
            };
        };
        let name = &container.name;
        match container.state.as_ref() {
            Some(ContainerState { running: Some(_), .. }) if init.is_some() => format!("init container {name} runs"),
            Some(ContainerState { running: Some(_), .. }) => self.probe(name),
            _ if ended(container).is_some() => {
                let status = ended(container).map(describe).unwrap_or_default();
                format!("container {name} has ended ({status}) and is started again")
            }
            _ => self.preparing(name),
        }
    }

    fn probe(&self, container: &str) -> String {
        let words = self.snapshot.event(&self.pod.metadata, &["Unhealthy"]).and_then(|event| event.message.as_deref());
        let words = words.map(|words| format!(": {}", text::line(words, REASON_LIMIT)));
        format!("container {container} runs and is not ready{}", words.unwrap_or_default())
    }

    fn preparing(&self, container: &str) -> String {
        let telling = ["Pulling", "Pulled", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"];
        match self.snapshot.event(&self.pod.metadata, &telling) {
            Some(event) if event.reason.as_deref() == Some("Pulling") => {
                format!("pulling image {}", self.image_of(container).unwrap_or_default())
            }
            Some(event) if event.type_.as_deref() == Some("Warning") => {
                text::line(event.message.as_deref().unwrap_or_default(), REASON_LIMIT)
            }
            _ => format!("container {container} is being made"),
        }
    }
}

/// Whether nothing tells that its containers do their work. What has done it needs no proof.
pub(super) fn is_unproven(pod: &Pod) -> bool {
    let runs = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    runs && containers.all(|container| container.readiness_probe.is_none())
}

/// How often its containers have ended and been started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).sum()
}

/// The container that explains why a pod failed: the one that ended badly.
pub(super) fn failed_container(status: &PodStatus) -> Option<&ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .find(|container| ended(container).is_some_and(|ended| ended.exit_code != 0))
}

fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let terminated =
        |state: &'_ Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone()).is_some();
    if terminated(&container.state) {
        return container.state.as_ref().and_then(|state| state.terminated.as_ref());
    }
    container.last_state.as_ref().and_then(|state| state.terminated.as_ref())
}

fn describe(ended: &ContainerStateTerminated) -> String {
    match ended.reason.as_deref() {
        Some("OOMKilled") => "it was killed because it used more memory than its limit".to_owned(),
        Some("StartError" | "ContainerCannotRun") => {
            format!("it cannot be started: {}", text::line(ended.message.as_deref().unwrap_or_default(), REASON_LIMIT))
        }
        _ => match ended.exit_code.checked_sub(128) {
            Some(signal @ 1..=64) => format!("killed by signal {signal}"),
            _ => format!("exit status {}", ended.exit_code),
        },
    }
}
