//! The seam between a deployment's life and where its backend runs.
//!
//! The registry decides when something is to be done; a driver does it. The local driver keeps backends as child
//! processes of this one, a cluster's driver keeps them as objects of the cluster.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use sinfonia_wire::{PublicKey, Recipe, TunnelEndpoint};
use thiserror::Error;

use crate::{
    deployment::{DeploymentId, Plan, Progress},
    lifecycle::Activity,
};

pub mod local;

/// Makes and unmakes peers and backends.
///
/// `install`, `withdraw` and `remove` may be dropped half way and are then followed by `withdraw`; each may be
/// repeated. No two of them run at the same time for one deployment.
pub trait Driver: Send + Sync {
    /// Whether the driver can run this recipe.
    ///
    /// # Errors
    /// A sentence for the client that says what the recipe lacks.
    fn check(&self, recipe: &Recipe) -> Result<(), Unsupported>;

    /// Makes peer and backend and returns when the backend answers.
    fn install(&self, plan: Arc<Plan>, progress: Progress) -> BoxFuture<'static, Result<Installed, InstallError>>;

    /// Takes away peer and backend, and returns when they are gone.
    fn withdraw(&self, plan: Arc<Plan>) -> BoxFuture<'static, ()>;

    /// Takes away what still carries the deployment's name.
    fn remove(&self, plan: Arc<Plan>) -> BoxFuture<'static, ()>;

    /// When the client was last heard in its tunnel.
    fn activity(&self, key: &PublicKey) -> Activity;

    /// Where the client's packets come from, as far as this process should remember it.
    fn endpoint(&self, _id: &DeploymentId) -> Option<SocketAddr> {
        None
    }

    /// Where a client of before a restart may still be, to be called when its peer is made.
    fn expect(&self, _id: DeploymentId, _endpoint: SocketAddr) {}

    /// What clients must know to reach this cloudlet.
    fn tunnel(&self) -> &Tunnel;
}

/// A recipe this driver cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// A usable backend.
pub struct Installed {
    /// Ends, with a sentence, when the backend does.
    pub exited: BoxFuture<'static, String>,
}

/// The side of the tunnel that is the same for all deployments of this cloudlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The cloudlet's key.
    pub public_key: PublicKey,
    /// Where clients send their packets.
    pub endpoint: TunnelEndpoint,
    /// What clients send through the tunnel.
    pub allowed_ips: Vec<IpNet>,
    /// The resolvers as clients see them.
    pub resolvers: Vec<IpAddr>,
}

/// Why a backend could not be made usable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InstallError {
    /// The command of the recipe cannot be executed.
    #[error("the recipe's command cannot be started: {0}")]
    Command(String),
    /// The command ended before it answered.
    #[error("the backend ended before it was ready: {status}{output}")]
    Exited {
        /// How it ended.
        status: String,
        /// What it wrote last, as the end of the sentence.
        output: String,
    },
    /// The command runs but never answered.
    #[error("the backend did not become ready within {seconds} s: it is still {reason}")]
    NeverReady {
        /// How long it had.
        seconds: u64,
        /// What was waited for.
        reason: String,
    },
    /// The machine does not let us run it.
    #[error("this cloudlet cannot run backends at present: {0}")]
    Platform(String),
}

impl InstallError {
    /// A stable name, kebab-case.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Command(_) => "command-not-started",
            Self::Exited { .. } => "backend-exited",
            Self::NeverReady { .. } => "backend-never-ready",
            Self::Platform(_) => "cannot-run-backends",
        }
    }
}
