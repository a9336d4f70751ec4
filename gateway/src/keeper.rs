//! Brings into force what the cluster asks for: rules in the kernel, peers in the tunnel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sinfonia_server::{Readiness, ReadinessTask};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use crate::backend::{Backend, BackendError};
use crate::cluster::{ClusterPeer, ClusterPod, Mirror, Refusals};
use crate::nft::{Access, RulesError, Table};
use crate::plan::{Plan, Surroundings, plan};

/// How often to look whether the rules are still there: others may flush all of the node's.
const CHECK: Duration = Duration::from_secs(2);
/// How often the rules are renewed: a fraction of the time that they last without. Not at each look, since others who
/// read or change rules of the node at that moment have to begin again.
const RENEW: Duration = Duration::from_secs(8);
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
    table: Table,
    backend: Arc<dyn Backend>,
    refusals: Refusals,
    /// What the table holds; none if that is not known.
    access: Option<Access>,
    /// When they were last changed or renewed.
    renewed: Instant,
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
        let renewed = Instant::now();
        Self { mirrors, surroundings, table, backend, refusals, access: None, renewed, applied, readiness, blocked }
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
                    self.access = None;
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
        let (table, before, after) = (self.table.clone(), self.access.take(), wanted.clone());
        let (now, is_old) = (Instant::now(), self.renewed.elapsed() >= RENEW);
        let change = move || -> Result<bool, RulesError> {
            let changed = match before {
                Some(before) if table.exists()? => {
                    if before == after && !is_old {
                        return Ok(false);
                    }
                    let changed = if before == after { table.renew() } else { table.update(&before, &after) };
                    changed.or_else(|error| {
                        tracing::warn!("{error}; they are written anew");
                        table.replace(&after)
                    })
                }
                Some(_) => {
                    tracing::warn!("somebody has removed the gateway's packet filter rules; they are written anew");
                    table.replace(&after)
                }
                None => table.replace(&after),
            };
            changed.map(|()| true)
        };
        if spawn_blocking(change).await.map_err(|_| KeepError::Stopping)?? {
            self.renewed = now;
        }
        self.access = Some(wanted.clone());
        Ok(())
    }
}

const BLOCKED: &str = "rules";
