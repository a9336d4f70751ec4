//! A cloudlet without Kubernetes: its registry, and what runs beside the server.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use sinfonia_recipes::Repository;
use sinfonia_server::{ServeError, Server};
use sinfonia_telemetry::opentelemetry::metrics::ObservableGauge;
use sinfonia_wire::{CloudletId, DeployEndpoint};
use tokio::task::JoinHandle;

use super::{
    Cloudlet, StartError,
    opening::{bind, open_device, patiently},
};
use crate::{
    addresses::AddressPool,
    clock::SystemClock,
    config::Config,
    deployments::Deployments,
    driver::{
        Driver,
        local::{LocalDriver, LocalOptions, RESERVED},
    },
    lifecycle::Policy,
    metrics,
    registry::{Parts, Registry},
    report_fields::ReportFields,
    reports::{HostReport, ReportSource},
    service::Service,
    state::{StateDirectory, StateError},
};

/// How often to write down where clients are, if they have moved. One that moved since is found when it calls.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(2);

/// One machine as a cloudlet.
pub(super) struct LocalCloudlet {
    service: Arc<Service>,
    id: CloudletId,
    expiry_interval: Duration,
    _gauge: ObservableGauge<u64>,
    _state: StateDirectory,
}

/// Takes the ports and makes the deployments of before a restart again.
pub(super) async fn start(config: &Config) -> Result<(Server, LocalCloudlet), StartError> {
    let pool = AddressPool::new(&config.client_networks, &RESERVED)?;
    let recipes = Arc::new(Repository::open(&config.recipes)?);
    let state = open_state(config).await?;
    let key = state.private_key()?;
    let public_key = key.public_key();
    let server = patiently(|| bind(config), |error| matches!(error, ServeError::PortInUse { .. })).await?;
    let device =
        patiently(|| open_device(key.clone(), config.tunnel_port), |error| matches!(error, StartError::TunnelPort(_)))
            .await?;
    let driver = LocalDriver::new(LocalOptions {
        public_key,
        endpoint: config.endpoint(device.local_port())?,
        device,
        pool,
        recipes: recipes.directory().map(absolute),
        hidden: vec![absolute(&config.state_directory)],
    });
    if !recipes.is_local() {
        tracing::warn!("recipes from a URL may not run local commands: the local driver has nothing to deploy");
    }
    Ok((server, LocalCloudlet::assemble(config, state, recipes, pool, Arc::new(driver)).await?))
}

/// As [`start`], with another driver.
pub(super) async fn start_with(
    config: &Config,
    driver: Arc<dyn Driver>,
) -> Result<(Server, LocalCloudlet), StartError> {
    let pool = AddressPool::new(&config.client_networks, &RESERVED)?;
    let recipes = Arc::new(Repository::open(&config.recipes)?);
    let state = open_state(config).await?;
    let server = patiently(|| bind(config), |error| matches!(error, ServeError::PortInUse { .. })).await?;
    Ok((server, LocalCloudlet::assemble(config, state, recipes, pool, driver).await?))
}

async fn open_state(config: &Config) -> Result<StateDirectory, StateError> {
    patiently(|| StateDirectory::open(&config.state_directory), |error| matches!(error, StateError::InUse(_))).await
}

impl LocalCloudlet {
    async fn assemble(
        config: &Config,
        state: StateDirectory,
        recipes: Arc<Repository>,
        pool: AddressPool,
        driver: Arc<dyn Driver>,
    ) -> Result<Self, StartError> {
        let id = state.cloudlet()?;
        let registry = Registry::new(Parts {
            driver: Arc::clone(&driver),
            store: state.store(),
            clock: Arc::new(SystemClock),
            policy: Policy::with_lease(config.lease),
            pool,
            max_deployments: config.max_deployments,
            max_per_client: config.max_per_client,
        });
        let watched = registry.clone();
        let gauge = metrics::watch(move || watched.states());
        let service = Service::new(registry, recipes, driver, state.store(), config.request_wait);
        service.resume_draining(state.draining()?);
        service.restore(&state.deployments()?).await;
        let expiry_interval = config.expiry_interval;
        Ok(Self { service: Arc::new(service), id, expiry_interval, _gauge: gauge, _state: state })
    }
}

impl Cloudlet for LocalCloudlet {
    fn id(&self) -> CloudletId {
        self.id
    }

    fn deployments(&self) -> Arc<dyn Deployments> {
        self.service.clone()
    }

    fn report_source(&self, endpoint: DeployEndpoint, fields: ReportFields) -> Arc<dyn ReportSource> {
        Arc::new(HostReport::new(self.id, endpoint, fields))
    }

    fn begin(&self) -> Vec<JoinHandle<()>> {
        vec![tokio::spawn(tick(self.service.registry().clone(), self.expiry_interval))]
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn close(&self) {
        self.service.close();
    }

    /// Those with a live lease come back at the next start.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.service.registry().shutdown().boxed()
    }
}

async fn tick(registry: Registry, interval: Duration) {
    let timer = |interval| {
        let mut timer = tokio::time::interval(interval);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer
    };
    let (mut expiry, mut moves) = (timer(interval), timer(REMEMBER_INTERVAL));
    // The first is at once, when nothing can be idle yet.
    expiry.tick().await;
    loop {
        tokio::select! {
            _ = expiry.tick() => registry.tick(),
            _ = moves.tick() => registry.remember(),
        }
    }
}

fn absolute(path: &std::path::Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
