//! What the HTTP face asks of a cloudlet, whichever driver runs the backends.

use std::{net::IpAddr, time::Duration};

use futures_util::future::BoxFuture;
use serde::Serialize;
use sinfonia_wire::{ApplicationId, CloudletDeployment, DeploymentName, DeploymentStatus, PublicKey};
use time::OffsetDateTime;

use crate::{deployment::DeploymentId, service::DeployError};

/// Who asks for what, and how long they wait.
#[derive(Debug, Clone)]
pub struct Request {
    /// The application and the client's key.
    pub id: DeploymentId,
    /// The client's address, for the limit per client.
    pub client: IpAddr,
    /// How long to wait for the backend; none for the usual time. With a time of its own the client takes an answer
    /// that says Initializing (RFC 7240, `Prefer: wait`).
    pub wait: Option<Duration>,
}

/// A deployment as administrators see it.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The application.
    pub application: ApplicationId,
    /// The client's key.
    pub key: PublicKey,
    /// Name of the deployment, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<DeploymentName>,
    /// Where it is in its life.
    pub phase: DeploymentStatus,
    /// The client's addresses in the tunnel.
    pub client_addresses: Vec<IpAddr>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none", with = "sinfonia_wire::timestamp::option")]
    pub created: Option<OffsetDateTime>,
    /// When the client was last seen in its tunnel; absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none", with = "sinfonia_wire::timestamp::option")]
    pub last_activity: Option<OffsetDateTime>,
    /// When the lease ends unless there is a request or activity.
    #[serde(skip_serializing_if = "Option::is_none", with = "sinfonia_wire::timestamp::option")]
    pub expires: Option<OffsetDateTime>,
    /// Whole seconds until then; 0 if that is past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// What it waits for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The backend's last lines of output, oldest first, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<String>>,
}

/// The deployments of one cloudlet.
pub trait Deployments: Send + Sync {
    /// Makes the deployment or renews its lease, and waits until it is usable or the time is up.
    ///
    /// # Errors
    /// See [`DeployError`].
    fn deploy(&self, request: Request) -> BoxFuture<'_, Result<CloudletDeployment, DeployError>>;

    /// The deployment, if there is one that is not being removed.
    ///
    /// # Errors
    /// When that cannot be told now.
    fn find(&self, id: DeploymentId) -> BoxFuture<'_, Result<Option<CloudletDeployment>, DeployError>>;

    /// Ends the deployment, if there is one.
    ///
    /// # Errors
    /// When that cannot be done now.
    fn release(&self, id: DeploymentId) -> BoxFuture<'_, Result<(), DeployError>>;

    /// All deployments, by application and key; with the backends' last lines of output if `output`.
    ///
    /// # Errors
    /// When they cannot be told now.
    fn list(&self, output: bool) -> BoxFuture<'_, Result<Vec<Listed>, DeployError>>;

    /// Whether new deployments are refused.
    fn is_draining(&self) -> bool;

    /// Refuses new deployments from now on, or takes them again.
    ///
    /// # Errors
    /// When that cannot be remembered.
    fn drain(&self, draining: bool) -> BoxFuture<'_, Result<(), DeployError>>;
}

/// Whole seconds from `now` until `end`, 0 if that is past.
#[must_use]
pub fn seconds_until(end: OffsetDateTime, now: OffsetDateTime) -> u64 {
    u64::try_from((end - now).whole_seconds()).unwrap_or(0)
}
