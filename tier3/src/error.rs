//! What can go wrong between an application and its backend, and what a person can do about it.

use sinfonia_tunnel::{ConfigError, DeviceError, NamespaceError};
use sinfonia_wire::{ApplicationId, DeployEndpointError};

/// An application did not come to run beside its backend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of tier1 or tier2 is not one.
    #[error(transparent)]
    Url(#[from] DeployEndpointError),
    /// The authorities to trust are not usable.
    #[error(transparent)]
    Tls(#[from] sinfonia_tls::TlsError),
    /// Nobody is there.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// The URL that was tried.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// tier1 has no cloudlet for this client.
    #[error("{server} has no cloudlet for application {application}: {reason}")]
    NoCloudlet {
        /// The URL that was asked.
        server: String,
        /// What was to be deployed.
        application: ApplicationId,
        /// What tier1 said.
        reason: String,
    },
    /// The tier knows no such application.
    #[error("{server} does not know application {application}: {reason}")]
    UnknownApplication {
        /// The URL that was asked.
        server: String,
        /// What was to be deployed.
        application: ApplicationId,
        /// What the tier said.
        reason: String,
    },
    /// The tier does not let this client in.
    #[error("{server} does not allow this: {reason}")]
    NotAllowed {
        /// The URL that was asked.
        server: String,
        /// What the tier said.
        reason: String,
    },
    /// No backend was deployed.
    #[error("{server} did not deploy application {application}: {reason}")]
    Deploy {
        /// The URL that was asked.
        server: String,
        /// What was to be deployed.
        application: ApplicationId,
        /// What the tier said, or why its answer is of no use.
        reason: String,
        /// Whether this may pass by itself: the tier was busy or late, not refusing.
        passing: bool,
    },
    /// A backend is there, but no tunnel to it.
    #[error("the tunnel did not come up: {0}")]
    Tunnel(TunnelErrors),
    /// No namespace could be made or used, or the application could not be started in it.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl Error {
    /// What to do about it, as one sentence; none where the error says so itself.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Url(_) => Some("Give an address such as http://127.0.0.1:5000."),
            Self::Unreachable { .. } => Some("Check the URL, and that tier1 (or the cloudlet's tier2) runs there."),
            Self::NoCloudlet { .. } => Some("Check that a cloudlet reports to this tier1 and accepts this client."),
            Self::UnknownApplication { .. } => Some(
                "Check the application's UUID, that its recipe is installed, and that the URL is that of a tier1 or tier2.",
            ),
            Self::NotAllowed { .. } => {
                Some("Ask the server's operator for a token, and give it by --token-file or SINFONIA_TOKEN.")
            }
            Self::Deploy { passing: true, .. } => {
                Some("Try again in a moment; the logs of tier1 and the cloudlet say more.")
            }
            Self::Deploy { .. } => Some("The logs of tier1 and the cloudlet say more."),
            Self::Tunnel(_) => {
                Some("Check that UDP to the cloudlet's endpoint passes every firewall in between, then try again.")
            }
            Self::Namespace(NamespaceError::CommandNotFound { .. }) => Some("Check the application's name and PATH."),
            Self::Namespace(NamespaceError::CommandNotExecutable { .. }) => {
                Some("Check that the application is an executable file that you may run.")
            }
            Self::Tls(_) | Self::Namespace(NamespaceError::Forbidden { .. }) => None,
            Self::Namespace(_) => Some("Try again; with --debug it says what it did."),
        }
    }
}

/// Why there is no tunnel to any of the deployments.
#[derive(Debug)]
pub struct TunnelErrors(pub Vec<TunnelError>);

impl std::fmt::Display for TunnelErrors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl From<TunnelErrors> for Error {
    /// Where no deployment had a namespace, that is what is wrong.
    fn from(mut errors: TunnelErrors) -> Self {
        let is_namespace = |error: &TunnelError| matches!(error, TunnelError::Namespace(_));
        if errors.0.iter().all(is_namespace)
            && let Some(TunnelError::Namespace(error)) = errors.0.pop()
        {
            return Self::Namespace(error);
        }
        Self::Tunnel(errors)
    }
}

/// Why there is no tunnel to one deployment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The cloudlet's answer describes no usable tunnel.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The endpoint's host name has no address.
    #[error("the cloudlet's endpoint {endpoint} is no use: {reason}")]
    Endpoint {
        /// The endpoint as the cloudlet gave it.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The tunnel did not start, or nobody answered.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is no namespace for it, or it cannot be configured as the cloudlet's answer says.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}
