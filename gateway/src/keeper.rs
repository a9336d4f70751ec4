//! Brings into force what the cluster asks for: rules in the kernel, peers in the tunnel.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sinfonia_server::{Readiness, ReadinessTask};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use crate::backend::{Backend, BackendError};
use crate::cluster::{ClusterPeer, ClusterPod, Mirror, Refusals};
use crate::nft::{Access, KeptTable, RulesError, Table};
use crate::plan::{Plan, Surroundings, plan};

/// How often to look after the rules when nothing changes.
const CHECK: Duration = Duration::from_secs(2);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Pause after a change, so that changes that come together are one.
const GATHER: Duration = Duration::from_millis(10);

/// The cluster's peers and pods, in memory.
#[derive(Clone)]
pub struct Mirrors {
    /// The peers.
    pub peers: Arc<Mirror<ClusterPeer>>,
    /// The pods.
    pub pods: Arc<Mirror<ClusterPod>>,
    /// Told of each change to either.
    pub changed: Arc<Notify>,
}

impl Mirrors {
    /// Empty ones.
    #[must_use]
    pub fn new() -> Self {
        let changed: Arc<Notify> = Arc::default();
        Self { peers: Mirror::new(changed.clone()), pods: Mirror::new(changed.clone()), changed }
    }

    /// What they ask for; none until both are complete.
    #[must_use]
    pub fn plan(&self, surroundings: &Surroundings) -> Option<Plan> {
        self.peers.with(|peers| self.pods.with(|pods| plan(peers.values(), pods.values(), surroundings))).flatten()
    }
}

impl Default for Mirrors {
    fn default() -> Self {
        Self::new()
    }
}

/// A plan could not be brought into force.
#[derive(Debug, Error)]
enum KeepError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("the gateway is stopping")]
    Stopping,
}

/// Keeps rules and peers as the cluster asks.
pub struct Keeper {
    mirrors: Mirrors,
    surroundings: Surroundings,
    table: Arc<Mutex<KeptTable>>,
    backend: Arc<dyn Backend>,
    refusals: Refusals,
    applied: watch::Sender<Arc<Plan>>,
    readiness: Readiness,
    blocked: Option<ReadinessTask>,
}

impl Keeper {
    /// Nothing is in force yet. `blocked` is dropped whenever everything is.
    #[must_use]
    pub fn new(
        mirrors: Mirrors,
        surroundings: Surroundings,
        table: Table,
        backend: Arc<dyn Backend>,
        refusals: Refusals,
        readiness: Readiness,
    ) -> Self {
        let blocked = Some(readiness.block(BLOCKED));
        let (applied, _) = watch::channel(Arc::default());
        let table = Arc::new(Mutex::new(KeptTable::new(table)));
        Self { mirrors, surroundings, table, backend, refusals, applied, readiness, blocked }
    }

    /// What is in force.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Arc<Plan>> {
        self.applied.subscribe()
    }

    /// Works for ever.
    pub async fn run(mut self) {
        let changed = self.mirrors.changed.clone();
        loop {
            let pause = match self.step().await {
                Ok(is_in_force) => {
                    if is_in_force {
                        self.blocked = None;
                    }
                    CHECK
                }
                Err(error) => {
                    tracing::error!("{error}");
                    self.table.lock().unwrap_or_else(PoisonError::into_inner).forget();
                    self.blocked.get_or_insert_with(|| self.readiness.block(BLOCKED));
                    RETRY
                }
            };
            if tokio::time::timeout(pause, changed.notified()).await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// False while it is not known what the cluster asks for.
    async fn step(&mut self) -> Result<bool, KeepError> {
        let Some(plan) = self.mirrors.plan(&self.surroundings) else {
            return Ok(false);
        };
        self.refusals.tell(&plan.refused);
        // Who loses its tunnel loses it before its address is given to another.
        self.backend.retain(&plan.peers)?;
        self.change_rules(&plan.access).await?;
        self.backend.apply(&plan.peers)?;
        if **self.applied.borrow() != plan {
            tracing::debug!(peers = plan.peers.len(), pairs = plan.access.pairs.len(), "in force");
            self.applied.send_replace(Arc::new(plan));
        }
        Ok(true)
    }

    async fn change_rules(&mut self, wanted: &Access) -> Result<(), KeepError> {
        let (table, wanted) = (self.table.clone(), wanted.clone());
        let keep = move || table.lock().unwrap_or_else(PoisonError::into_inner).keep(&wanted);
        Ok(spawn_blocking(keep).await.map_err(|_| KeepError::Stopping)??)
    }
}

const BLOCKED: &str = "rules";
