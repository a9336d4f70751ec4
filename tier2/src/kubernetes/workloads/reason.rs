use std::time::Duration;

use thiserror::Error;

/// Why a release's workloads will not become available. The sentences are meant for the client who asked for the
/// deployment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The image is not there or cannot be fetched.
    #[error("the image {image} of {workload} cannot be pulled: {reason}")]
    ImagePull {
        /// Kind and name, as `deployment web`.
        workload: String,
        /// The image.
        image: String,
        /// The container runtime's words.
        reason: String,
    },
    /// A container ends again and again.
    #[error("container {} of {workload} keeps ending: {status}{output}", culprit.container)]
    Crashes {
        /// Kind and name.
        workload: String,
        /// Which container.
        culprit: Culprit,
        /// How it ended last.
        status: String,
        /// What it wrote last, as the end of the sentence.
        output: String,
    },
    /// A container cannot be made.
    #[error("container {container} of {workload} cannot be started: {reason}")]
    Container {
        /// Kind and name.
        workload: String,
        /// Which container.
        container: String,
        /// The kubelet's words, as the ConfigMap that is missing.
        reason: String,
    },
    /// No node takes a pod.
    #[error("no node can take a pod of {workload}: {reason}")]
    Unschedulable {
        /// Kind and name.
        workload: String,
        /// The scheduler's words.
        reason: String,
    },
    /// A volume is not provided.
    #[error("a volume of {workload} is not provided: {reason}")]
    Volume {
        /// Kind and name.
        workload: String,
        /// The scheduler's or the provisioner's words.
        reason: String,
    },
    /// More than the namespace may use.
    #[error("{workload} needs more than a deployment may use here: {reason}")]
    Quota {
        /// Kind and name.
        workload: String,
        /// What was asked for and what there is.
        reason: String,
    },
    /// A pod beyond the namespace's Pod Security level.
    #[error("{workload} is not allowed here: its Pod Security is {reason}")]
    PodSecurity {
        /// Kind and name.
        workload: String,
        /// The level and what violates it.
        reason: String,
    },
    /// The API server refuses the pods for another reason.
    #[error("the pods of {workload} cannot be made: {reason}")]
    NoPods {
        /// Kind and name.
        workload: String,
        /// The API server's words.
        reason: String,
    },
    /// A Job failed.
    #[error("{workload} failed: {reason}{output}")]
    JobFailed {
        /// Kind and name.
        workload: String,
        /// A container of its last pod.
        culprit: Option<Culprit>,
        /// The Job's words.
        reason: String,
        /// What it wrote last, as the end of the sentence.
        output: String,
    },
    /// A controller has given up.
    #[error("{workload} makes no progress: {reason}")]
    Stuck {
        /// Kind and name.
        workload: String,
        /// The controller's words.
        reason: String,
    },
}

/// A container whose output tells more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
}

impl Reason {
    /// A stable name of the cause.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ImagePull { .. } => "image-pull-failed",
            Self::Crashes { .. } => "backend-crashes",
            Self::Container { .. } => "container-not-started",
            Self::Unschedulable { .. } => "unschedulable",
            Self::Volume { .. } => "volume-pending",
            Self::Quota { .. } => "quota-exceeded",
            Self::PodSecurity { .. } => "pod-security",
            Self::NoPods { .. } => "pods-refused",
            Self::JobFailed { .. } => "job-failed",
            Self::Stuck { .. } => "no-progress",
        }
    }

    /// How long this may last before it counts as final.
    pub(super) const fn grace(&self) -> Duration {
        Duration::from_secs(match self {
            // The kubelet tries again after 10 s; a registry that is away for a moment is back then.
            Self::ImagePull { .. } => 25,
            // Provisioners need some seconds.
            Self::Volume { .. } => 30,
            // Pods of an earlier installation may still be on their way out.
            Self::Quota { .. } | Self::Unschedulable { .. } => 5,
            // What the chart's own Jobs or hooks make may come a moment later.
            _ => 10,
        })
    }

    /// The container whose output explains it.
    pub(super) const fn culprit(&self) -> Option<&Culprit> {
        match self {
            Self::Crashes { culprit, .. } | Self::JobFailed { culprit: Some(culprit), .. } => Some(culprit),
            _ => None,
        }
    }

    /// With what that container wrote last.
    pub(super) fn with_output(mut self, lines: &[String]) -> Self {
        if let (false, Self::Crashes { output, .. } | Self::JobFailed { output, .. }) = (lines.is_empty(), &mut self) {
            *output = format!("; its last output: {}", lines.join(" / "));
        }
        self
    }
}

/// Why waiting ended without a usable backend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotReady {
    /// It never will be usable.
    #[error(transparent)]
    Failed(#[from] Reason),
    /// It is not usable yet.
    #[error("the backend did not become ready within {seconds} s: it is still {waiting}")]
    Deadline {
        /// How long it had.
        seconds: u64,
        /// What was waited for.
        waiting: String,
    },
}

impl NotReady {
    /// A stable name of the cause.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.code(),
            Self::Deadline { .. } => "backend-never-ready",
        }
    }
}
