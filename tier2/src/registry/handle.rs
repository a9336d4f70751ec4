//! One deployment as the registry, its worker and waiting clients share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sinfonia_wire::{CloudletDeployment, DeploymentStatus, Dns, TunnelConfig};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

use crate::{
    deployment::{Plan, Progress},
    driver::{InstallError, Tunnel},
    lifecycle::{Action, Event, Lifecycle, Policy, State},
    state::StateError,
};

/// One deployment.
pub struct Deployment {
    plan: Arc<Plan>,
    progress: Progress,
    life: Mutex<Lifecycle>,
    work: mpsc::UnboundedSender<Vec<Action>>,
    view: watch::Sender<View>,
}

/// What those who wait for a deployment look at.
#[derive(Debug, Clone)]
struct View {
    state: State,
    failure: Option<Failure>,
    removed: bool,
}

/// Why a deployment ended before it was usable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The backend could not be made.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// It could not be remembered.
    #[error(transparent)]
    State(#[from] StateError),
    /// The backend exited again and again.
    #[error("{0}")]
    Unstable(String),
}

/// How waiting for a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is usable.
    Ready,
    /// It could not be made.
    Failed(Failure),
    /// It was deleted while it was waited for.
    Deleted,
}

impl Deployment {
    pub(super) fn new(plan: Plan, life: Lifecycle) -> (Self, mpsc::UnboundedReceiver<Vec<Action>>) {
        let (work, queue) = mpsc::unbounded_channel();
        let view = View { state: life.state(), failure: None, removed: false };
        let this = Self {
            plan: Arc::new(plan),
            progress: Progress::default(),
            life: Mutex::new(life),
            work,
            view: watch::channel(view).0,
        };
        (this, queue)
    }

    /// What does not change.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How far its installation is.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.life().state()
    }

    /// Where it is in its life, as clients are told.
    #[must_use]
    pub fn status(&self) -> DeploymentStatus {
        self.life().status()
    }

    /// When its lease ends.
    #[must_use]
    pub fn lease_end(&self) -> OffsetDateTime {
        self.life().lease_end()
    }

    /// The deployment as clients are told about it.
    #[must_use]
    pub fn describe(&self, tunnel: &Tunnel) -> CloudletDeployment {
        CloudletDeployment {
            uuid: self.plan.id.application,
            application_key: self.plan.id.key,
            status: self.status(),
            deployment_name: Some(self.plan.name.clone()),
            created: Some(self.plan.created),
            tunnel_config: TunnelConfig {
                public_key: tunnel.public_key,
                allowed_ips: tunnel.allowed_ips.clone(),
                endpoint: tunnel.endpoint.clone(),
                address: self.plan.addresses.iter().map(|address| (*address).into()).collect(),
                dns: Dns { servers: tunnel.resolvers.clone(), search: self.plan.name.search_domains() },
            },
            cloudlet: None,
        }
    }

    /// Waits until it is usable or ended.
    pub async fn settled(&self) -> Outcome {
        let mut view = self.view.subscribe();
        let settled = view.wait_for(|view| matches!(view.state, State::Deployed | State::Expired)).await;
        match settled.as_deref() {
            Ok(View { state: State::Deployed, .. }) => Outcome::Ready,
            Ok(View { failure: Some(failure), .. }) => Outcome::Failed(failure.clone()),
            _ => Outcome::Deleted,
        }
    }

    /// Waits until nothing of it is left.
    pub async fn removed(&self) {
        // The sender lives as long as `self`.
        let _ = self.view.subscribe().wait_for(|view| view.removed).await;
    }

    pub(super) fn apply(&self, policy: &Policy, event: Event, now: OffsetDateTime) -> State {
        let mut life = self.life();
        let (next, actions) = life.step(policy, event, now);
        if !actions.is_empty() {
            // Without a worker there is nothing left to act on.
            let _ = self.work.send(actions);
        }
        if next.state() != life.state() {
            tracing::info!(deployment = %self.plan.name, ?event, from = ?life.state(), to = ?next.state(), "state changed");
        }
        *life = next;
        self.view.send_if_modified(|view| {
            if next.state() == State::Deployed {
                view.failure = None;
            }
            std::mem::replace(&mut view.state, next.state()) != next.state()
        });
        next.state()
    }

    pub(super) fn set_failure(&self, failure: Failure) {
        self.view.send_modify(|view| view.failure = Some(failure));
    }

    pub(super) fn set_removed(&self) {
        self.view.send_modify(|view| view.removed = true);
    }

    fn life(&self) -> MutexGuard<'_, Lifecycle> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
