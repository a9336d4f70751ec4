use std::path::PathBuf;

use thiserror::Error;

/// Why Helm did not do what it was asked for. The sentences are meant for the client who asked for the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HelmError {
    /// The program cannot be run.
    #[error("this cloudlet cannot run Helm ({program}: {reason}); install Helm 3 there, or name it with --helm")]
    Missing {
        /// What was to be run.
        program: String,
        /// The system's words.
        reason: String,
    },
    /// The cache directory cannot be used.
    #[error("this cloudlet cannot use its directory {}: {reason}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The place is known and the chart is not there.
    #[error("there is no chart {chart}: the recipe names one that does not exist")]
    ChartNotFound {
        /// Its file name or URL.
        chart: String,
    },
    /// The place cannot be asked.
    #[error("the chart {chart} cannot be fetched: {reason}")]
    ChartUnavailable {
        /// Its URL.
        chart: String,
        /// What happened.
        reason: String,
    },
    /// Not a chart, or one whose templates give nothing usable.
    #[error("the chart is broken: {0}")]
    ChartInvalid(String),
    /// The recipe's values do not satisfy the chart's schema.
    #[error("the recipe's values do not fit the chart: {0}")]
    ValuesInvalid(String),
    /// The chart wants what charts may not have.
    #[error("the chart contains {object}, which is not allowed here: {reason}")]
    Forbidden {
        /// Kind and name, as `ClusterRole "x"`.
        object: String,
        /// Why.
        reason: String,
    },
    /// A pod beyond the namespace's Pod Security level.
    #[error("the chart contains {object}, which is not allowed here: its Pod Security is {reason}")]
    PodSecurity {
        /// Kind and name.
        object: String,
        /// The level and what violates it.
        reason: String,
    },
    /// More than the deployment may use.
    #[error("the chart needs more than a deployment may use here: {object}: {reason}")]
    Quota {
        /// Kind and name.
        object: String,
        /// What was asked for and what there is.
        reason: String,
    },
    /// A hook of the chart failed.
    #[error("a hook of the chart failed: {0}")]
    Hook(String),
    /// Helm was killed by somebody else.
    #[error("Helm was killed by signal {signal}")]
    Killed {
        /// Which.
        signal: i32,
    },
    /// Helm took too long and was killed.
    #[error("Helm did not finish within {seconds} s")]
    TimeLimit {
        /// How long it had.
        seconds: u64,
    },
    /// The API server does not answer.
    #[error("the cluster's API server cannot be reached: {0}")]
    Unreachable(String),
    /// The account that installs has not its rights, not yet or not any more.
    #[error("the account that installs charts lacks its rights: {0}")]
    NoRights(String),
    /// The namespace is being removed or is gone.
    #[error("the deployment's namespace is being removed")]
    NamespaceEnding,
    /// Another Helm is at work on the release, or died while it was.
    #[error("another installation of this deployment is in progress")]
    Busy,
    /// Anything else, in Helm's words.
    #[error("Helm failed: {0}")]
    Failed(String),
}

impl HelmError {
    /// A stable name of the cause.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "helm-missing",
            Self::Directory { .. } => "helm-directory",
            Self::ChartNotFound { .. } => "chart-not-found",
            Self::ChartUnavailable { .. } => "chart-unavailable",
            Self::ChartInvalid(_) => "chart-invalid",
            Self::ValuesInvalid(_) => "values-invalid",
            Self::Forbidden { .. } => "chart-forbidden",
            Self::PodSecurity { .. } => "pod-security",
            Self::Quota { .. } => "quota-exceeded",
            Self::Hook(_) => "hook-failed",
            Self::Killed { .. } => "helm-killed",
            Self::TimeLimit { .. } => "helm-timeout",
            Self::Unreachable(_) => "api-unreachable",
            Self::NoRights(_) => "deployer-without-rights",
            Self::NamespaceEnding => "namespace-ending",
            Self::Busy => "helm-busy",
            Self::Failed(_) => "helm-failed",
        }
    }

    /// Whether the same may succeed in a moment, without anybody's doing.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::ChartUnavailable { .. } | Self::NoRights(_) | Self::Busy | Self::Killed { .. }
        )
    }
}
