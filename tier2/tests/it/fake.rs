//! A driver and a store that keep everything in memory and do what a test tells them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use sinfonia_tier2::{
    clock::Clock,
    deployment::{DeploymentId, Plan, Progress},
    driver::{Driver, InstallError, Installed, Tunnel, Unsupported},
    lifecycle::Activity,
    state::{Record, StateError, Store},
};
use sinfonia_wire::{ApplicationId, PublicKey, Recipe};
use time::OffsetDateTime;
use tokio::sync::oneshot;

/// What the pretended machine holds. It outlives registries, as a cluster would.
#[derive(Default)]
pub(crate) struct World {
    /// Deployments with a peer or a backend, whole or half-made.
    pub(crate) live: BTreeSet<DeploymentId>,
    /// Deployments whose name is still carried by something.
    pub(crate) named: BTreeSet<DeploymentId>,
    /// Installations that wait for the test's verdict.
    pub(crate) pending: BTreeMap<DeploymentId, oneshot::Sender<Result<(), InstallError>>>,
    /// Running backends.
    pub(crate) backends: BTreeMap<DeploymentId, oneshot::Sender<String>>,
    /// What is known of clients; nothing is [`Activity::Never`].
    pub(crate) activity: BTreeMap<PublicKey, Activity>,
    /// Installations are held until the test decides.
    pub(crate) hold: bool,
    /// How many installations were begun.
    pub(crate) installs: usize,
    /// Remembered deployments.
    pub(crate) records: Vec<Record>,
    /// Nothing can be remembered.
    pub(crate) disk_full: bool,
}

/// The pretended machine, shared between a test, a driver and a store.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<World>>);

impl Fake {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// What SIGKILL leaves of namespaces: nothing.
    pub(crate) fn crash(&self) {
        let mut world = self.world();
        world.live.clear();
        world.named.clear();
        world.pending.clear();
        world.backends.clear();
    }

    pub(crate) fn driver(&self) -> Arc<dyn Driver> {
        let tunnel = Tunnel {
            public_key: "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=".parse().unwrap(),
            endpoint: "198.51.100.2:51820".parse().unwrap(),
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap()],
            resolvers: vec!["10.96.0.10".parse().unwrap()],
        };
        Arc::new(FakeDriver { fake: self.clone(), tunnel })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
}

struct FakeDriver {
    fake: Fake,
    tunnel: Tunnel,
}

impl Driver for FakeDriver {
    fn check(&self, recipe: &Recipe) -> Result<(), Unsupported> {
        match recipe.local {
            Some(_) => Ok(()),
            None => Err(Unsupported("the recipe has no `local:` section".to_owned())),
        }
    }

    fn install(&self, plan: Arc<Plan>, progress: Progress) -> BoxFuture<'static, Result<Installed, InstallError>> {
        let fake = self.fake.clone();
        async move {
            let (verdict, decided) = oneshot::channel();
            {
                let mut world = fake.world();
                assert!(world.live.insert(plan.id), "installed twice");
                world.named.insert(plan.id);
                world.installs += 1;
                if world.hold {
                    world.pending.insert(plan.id, verdict);
                } else {
                    verdict.send(Ok(())).unwrap();
                }
            }
            progress.step("waiting for the test");
            progress.line("a line of the backend".to_owned());
            decided.await.unwrap()?;
            let (backend, exited) = oneshot::channel();
            fake.world().backends.insert(plan.id, backend);
            Ok(Installed { exited: exited.map(|reason| reason.unwrap()).boxed() })
        }
        .boxed()
    }

    fn withdraw(&self, plan: Arc<Plan>) -> BoxFuture<'static, ()> {
        let fake = self.fake.clone();
        async move {
            tokio::task::yield_now().await;
            let mut world = fake.world();
            world.live.remove(&plan.id);
            world.pending.remove(&plan.id);
            world.backends.remove(&plan.id);
        }
        .boxed()
    }

    fn remove(&self, plan: Arc<Plan>) -> BoxFuture<'static, ()> {
        let fake = self.fake.clone();
        async move {
            tokio::task::yield_now().await;
            let mut world = fake.world();
            assert!(!world.live.contains(&plan.id), "removed before it was withdrawn");
            world.named.remove(&plan.id);
        }
        .boxed()
    }

    fn activity(&self, key: &PublicKey) -> Activity {
        self.fake.world().activity.get(key).copied().unwrap_or(Activity::Never)
    }

    fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }
}

impl Store for Fake {
    fn save(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), StateError>> {
        let fake = self.clone();
        async move {
            tokio::task::yield_now().await;
            let mut world = fake.world();
            if world.disk_full {
                return Err(StateError::NoSpace("/state".into()));
            }
            world.records = records;
            Ok(())
        }
        .boxed()
    }

    fn save_draining(&self, _: bool) -> BoxFuture<'static, Result<(), StateError>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct ManualClock(Arc<Mutex<OffsetDateTime>>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(OffsetDateTime::UNIX_EPOCH)))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        *self.0.lock().unwrap() += std::time::Duration::from_secs(seconds);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

pub(crate) fn recipe() -> Arc<Recipe> {
    let json = serde_json::json!({
        "chart": "helloworld",
        "version": "0.1.0",
        "local": { "command": ["true"], "port": 80, "service": "helloworld" },
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

pub(crate) fn id(n: u8) -> DeploymentId {
    DeploymentId { application: ApplicationId::HELLOWORLD, key: PublicKey::from([n; 32]) }
}
