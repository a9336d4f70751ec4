//! A client for the API server, with a limit to every call.

use std::path::Path;
use std::time::{Duration, Instant};

use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;

/// Longest wait for the answer to one request that is no watch.
const LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait at the start for an API server that is away, and between two attempts.
const PATIENCE: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_secs(1);

/// The API server cannot be asked, or refuses.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Nobody says where it is.
    #[error("no cluster is known: run in a pod with a service account, or give --kubeconfig ({0})")]
    NoCluster(Box<InferConfigError>),
    /// The file does not say it either.
    #[error("--kubeconfig cannot be used: {0}")]
    Kubeconfig(Box<KubeconfigError>),
    /// The answer is an error.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the API server said.
        reason: Box<kube::Error>,
    },
    /// There is no answer.
    #[error("cannot {what}: the API server did not answer within {} s", LIMIT.as_secs())]
    Silent {
        /// What was tried.
        what: String,
    },
    /// The secret is not ours to replace.
    #[error(
        "the key {key} in the secret {namespace}/{name} is no WireGuard private key: delete the secret's data to have a new \
         one made, which gives all clients a broken tunnel until they ask for a new one"
    )]
    BrokenKey {
        /// Namespace of the secret.
        namespace: String,
        /// Name of the secret.
        name: &'static str,
        /// The entry.
        key: &'static str,
    },
    /// Somebody changes it all the time.
    #[error("the secret {0} changes whenever it is written: is another gateway starting again and again?")]
    Contention(&'static str),
}

impl ClusterError {
    /// Whether the API server answered with this HTTP status.
    #[must_use]
    pub fn is_status(&self, status: u16) -> bool {
        matches!(self, Self::Refused { reason, .. } if matches!(&**reason, kube::Error::Api(answer) if answer.code == status))
    }

    /// Whether it may be gone by itself.
    fn is_temporary(&self) -> bool {
        const TOO_MANY_REQUESTS: u16 = 429;
        match self {
            Self::Silent { .. } => true,
            Self::Refused { reason, .. } => match &**reason {
                kube::Error::Api(answer) => answer.code >= 500 || answer.code == TOO_MANY_REQUESTS,
                _ => true,
            },
            Self::NoCluster(_) | Self::Kubeconfig(_) | Self::BrokenKey { .. } | Self::Contention(_) => false,
        }
    }
}

/// Asks again while the API server is away, for [`PATIENCE`] at most.
///
/// # Errors
/// The first that time does not heal, or the last.
pub async fn patiently<T, R>(mut ask: impl FnMut() -> R) -> Result<T, ClusterError>
where
    R: Future<Output = Result<T, ClusterError>>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut is_told = false;
    loop {
        match ask().await {
            Err(error) if error.is_temporary() && Instant::now() < deadline => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!("{error}; it is tried again");
                }
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// A client for the cluster of `kubeconfig`, else of the pod or environment this runs in.
///
/// # Errors
/// If there is no usable configuration.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ClusterError> {
    let broken = |error| ClusterError::Kubeconfig(Box::new(error));
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(broken)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(broken)?
        }
        None => Config::infer().await.map_err(|error| ClusterError::NoCluster(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT_LIMIT);
    let what = "connect to the cluster";
    Client::try_from(config).map_err(|reason| ClusterError::Refused { what: what.into(), reason: Box::new(reason) })
}

/// The answer to a request, if it comes in time.
///
/// # Errors
/// [`ClusterError::Refused`] or [`ClusterError::Silent`], with `what` was tried.
pub async fn within<T>(
    what: impl Into<String>,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(reason)) => Err(ClusterError::Refused { what: what.into(), reason: Box::new(reason) }),
        Err(_) => Err(ClusterError::Silent { what: what.into() }),
    }
}
