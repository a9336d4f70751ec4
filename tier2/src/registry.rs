//! The deployments of this cloudlet: who has one, what happens to it, what is remembered of it.
//!
//! Events reach a deployment synchronously under its lock, so two simultaneous requests for one (application, key)
//! meet in one deployment. What the lifecycle wants done is carried out by one task per deployment.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use sinfonia_wire::{DeploymentName, DeploymentStatus, Recipe};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::{
    addresses::{AddressPool, Exhausted},
    clock::Clock,
    deployment::{DeploymentId, Plan, client_network},
    driver::Driver,
    lifecycle::{Event, Lifecycle, Policy, State},
    names::unused_name,
    state::{Record, StateError, Store},
};

mod handle;
mod saver;
mod worker;

pub use handle::{Deployment, Failure, Outcome};

use saver::Saver;

/// What a registry works with.
pub struct Parts {
    /// Makes and unmakes backends.
    pub driver: Arc<dyn Driver>,
    /// Remembers deployments across restarts.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Leases and restarts.
    pub policy: Policy,
    /// Client addresses.
    pub pool: AddressPool,
    /// The most deployments at once.
    pub max_deployments: usize,
    /// The most deployments of one client's address; none for no limit.
    pub max_per_client: Option<usize>,
}

/// All deployments of this cloudlet. Clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    parts: Parts,
    table: Mutex<Table>,
    saver: Saver,
    stop: watch::Sender<bool>,
    runtime: Handle,
}

#[derive(Default)]
struct Table {
    deployments: BTreeMap<DeploymentId, Arc<Deployment>>,
    workers: JoinSet<()>,
    closed: bool,
}

/// Why there is no new deployment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CreateError {
    /// As many as allowed are there.
    #[error("this cloudlet has all the {0} deployments it may hold (--max-deployments)")]
    Full(usize),
    /// As many as this client may have.
    #[error(
        "this client's address has all the {0} deployments it may have here (--max-deployments-per-client): release \
         one, or wait until one expires"
    )]
    ClientFull(usize),
    /// No address is left.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// tier2 is stopping.
    #[error("this cloudlet is stopping")]
    Stopping,
}

impl Registry {
    /// An empty registry whose work runs on the present tokio runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new_cyclic(|shared: &Weak<Shared>| Shared {
            saver: Saver::spawn(shared.clone()),
            parts,
            table: Mutex::default(),
            stop: watch::channel(false).0,
            runtime: Handle::current(),
        }))
    }

    /// Makes a deployment known from before a restart again: same name, same addresses, the rest of its lease.
    /// Returns whether it is still of use: its lease lives, and its name and addresses are not taken or foreign.
    pub fn restore(&self, record: &Record, recipe: Arc<Recipe>) -> bool {
        let mut table = self.table();
        let taken = table.addresses_taken();
        let usable = self.0.parts.clock.now() < record.lease_end
            && self.0.parts.pool.could_give(&record.addresses)
            && !record.addresses.iter().any(|address| taken.contains(address))
            && !table.name_taken(&record.name)
            && !table.deployments.contains_key(&record.id());
        if usable {
            if let Some(endpoint) = record.endpoint {
                self.0.parts.driver.expect(record.id(), endpoint);
            }
            let plan = Plan {
                id: record.id(),
                name: record.name.clone(),
                addresses: record.addresses.clone(),
                created: record.created,
                client: record.client,
                recipe,
            };
            self.insert(&mut table, plan, Lifecycle::resume(record.lease_end));
        }
        usable
    }

    /// The deployment, with its lease renewed, if there is one.
    #[must_use]
    pub fn renew(&self, id: &DeploymentId) -> Option<Arc<Deployment>> {
        self.table().renew(id, self)
    }

    /// The deployment, made if there is none; its lease is renewed either way.
    ///
    /// # Errors
    /// See [`CreateError`]. What goes wrong later is told by [`Deployment::settled`].
    pub async fn create(
        &self,
        id: DeploymentId,
        recipe: Arc<Recipe>,
        client: Option<IpAddr>,
    ) -> Result<Arc<Deployment>, CreateError> {
        loop {
            let leaving = {
                let mut table = self.table();
                if let Some(deployment) = table.renew(&id, self) {
                    return Ok(deployment);
                }
                match table.deployments.get(&id) {
                    Some(leaving) => Arc::clone(leaving),
                    None => return self.begin(&mut table, id, recipe, client),
                }
            };
            leaving.removed().await;
        }
    }

    /// The deployment, if there is one that is not being removed.
    #[must_use]
    pub fn get(&self, id: &DeploymentId) -> Option<Arc<Deployment>> {
        let found = self.table().deployments.get(id).cloned();
        found.filter(|deployment| deployment.state() != State::Expired)
    }

    /// Ends the deployment, if there is one, and returns when nothing of it is left.
    pub async fn delete(&self, id: &DeploymentId) {
        let found = self.table().deployments.get(id).cloned();
        if let Some(deployment) = found {
            self.0.apply(&deployment, Event::Deleted);
            deployment.removed().await;
        }
    }

    /// The periodic job: extends the leases of active clients, expires idle ones.
    pub fn tick(&self) {
        let all: Vec<_> = self.table().deployments.values().cloned().collect();
        for deployment in all {
            if deployment.plan().ends_at().is_some_and(|end| self.0.parts.clock.now() >= end) {
                self.0.apply(&deployment, Event::Aged);
            }
            let activity = self.0.parts.driver.activity(&deployment.plan().id.key);
            self.0.apply(&deployment, Event::Tick(activity));
        }
        self.0.saver.request();
    }

    /// Writes down what has changed by itself: where clients are.
    pub fn remember(&self) {
        self.0.saver.request();
    }

    /// All deployments, by application and key.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Deployment>> {
        self.table().deployments.values().cloned().collect()
    }

    /// The state of each deployment.
    #[must_use]
    pub fn states(&self) -> Vec<DeploymentStatus> {
        self.table().deployments.values().map(|deployment| deployment.status()).collect()
    }

    /// Takes no new deployments, remembers those with a live lease, and returns when no backend is left.
    pub async fn shutdown(&self) {
        let mut workers = {
            let mut table = self.table();
            table.closed = true;
            std::mem::take(&mut table.workers)
        };
        // A failure has been logged, and the last good state stays.
        let _ = self.0.saver.save().await;
        self.0.stop.send_replace(true);
        while workers.join_next().await.is_some() {}
    }

    fn begin(
        &self,
        table: &mut Table,
        id: DeploymentId,
        recipe: Arc<Recipe>,
        client: Option<IpAddr>,
    ) -> Result<Arc<Deployment>, CreateError> {
        let parts = &self.0.parts;
        if table.closed {
            return Err(CreateError::Stopping);
        }
        if table.deployments.len() >= parts.max_deployments {
            return Err(CreateError::Full(parts.max_deployments));
        }
        if let Some(most) = parts.max_per_client
            && client.is_some_and(|client| table.of_client(client) >= most)
        {
            return Err(CreateError::ClientFull(most));
        }
        let addresses = parts.pool.allocate(&table.addresses_taken(), id.seed())?;
        let now = parts.clock.now();
        let plan = Plan {
            id,
            name: unused_name(&mut rand::rng(), |name| table.name_taken(name)),
            addresses,
            created: whole_second(now),
            client,
            recipe,
        };
        Ok(self.insert(table, plan, Lifecycle::begin(&parts.policy, now)))
    }

    fn insert(&self, table: &mut Table, plan: Plan, (life, actions): worker::Begin) -> Arc<Deployment> {
        let id = plan.id;
        let (deployment, work) = Deployment::new(plan, life);
        let deployment = Arc::new(deployment);
        table.deployments.insert(id, Arc::clone(&deployment));
        while table.workers.try_join_next().is_some() {}
        let request = tracing::Span::current();
        let worker = worker::run(Arc::clone(&self.0), Arc::clone(&deployment), work, actions, request);
        table.workers.spawn_on(worker, &self.0.runtime);
        deployment
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, deployment: &Deployment, event: Event) -> State {
        deployment.apply(&self.parts.policy, event, self.parts.clock.now())
    }

    /// What is to be remembered now.
    fn records(&self) -> Vec<Record> {
        let table = self.table();
        let staying = table.deployments.values().filter(|d| d.state() != State::Expired);
        let endpoint = |d: &Deployment| self.parts.driver.endpoint(&d.plan().id);
        staying.map(|d| Record::of(d.plan(), d.lease_end(), endpoint(d))).collect()
    }

    /// The end of a deployment: its name and addresses are free again.
    fn forget(&self, deployment: &Deployment) {
        self.table().deployments.remove(&deployment.plan().id);
        self.saver.request();
        deployment.set_removed();
    }

    async fn save(&self) -> Result<(), StateError> {
        self.saver.save().await
    }
}

impl Table {
    fn renew(&self, id: &DeploymentId, registry: &Registry) -> Option<Arc<Deployment>> {
        let deployment = self.deployments.get(id)?;
        let state = registry.0.apply(deployment, Event::Requested);
        registry.0.saver.request();
        (state != State::Expired).then(|| Arc::clone(deployment))
    }

    fn addresses_taken(&self) -> std::collections::BTreeSet<IpAddr> {
        let plans = self.deployments.values().map(|deployment| deployment.plan());
        plans.flat_map(|plan| plan.addresses.iter().copied()).collect()
    }

    fn of_client(&self, client: IpAddr) -> usize {
        let network = Some(client_network(client));
        self.deployments.values().filter(|deployment| deployment.plan().client.map(client_network) == network).count()
    }

    fn name_taken(&self, name: &DeploymentName) -> bool {
        self.deployments.values().any(|deployment| deployment.plan().name == *name)
    }
}

/// `Created` is told in whole seconds.
fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
