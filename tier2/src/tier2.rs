//! The wiring: from a configuration to a running cloudlet.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use actix_web::web;
use sinfonia_recipes::{OpenError, Repository};
use sinfonia_server::{Readiness, ServeError, Server};
use sinfonia_tunnel::DeviceError;
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint, DeployEndpointError, TunnelEndpointError};
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    addresses::{AddressPool, PoolError},
    clock::SystemClock,
    config::Config,
    driver::{
        Driver,
        local::{LocalDriver, LocalOptions, RESERVED},
    },
    lifecycle::Policy,
    metrics,
    registry::{Parts, Registry},
    reports, routes,
    service::Service,
    state::{StateDirectory, StateError},
    zeroconf::{Announcement, ZeroconfError},
};

mod opening;

use opening::{bind, open_device, patiently};

/// How often to write down where clients are, if they have moved. One that moved since is found when it calls.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(2);

/// A cloudlet that has its ports and knows its deployments, but does not answer yet.
pub struct Tier2 {
    server: Server,
    service: web::Data<Service>,
    cloudlet: CloudletId,
    config: Config,
    reported: Option<CloudletInfo>,
    _state: StateDirectory,
}

/// Why a cloudlet does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Recipes.
    #[error(transparent)]
    Recipes(#[from] OpenError),
    /// State.
    #[error(transparent)]
    State(#[from] StateError),
    /// Client networks.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// HTTP.
    #[error(transparent)]
    Server(#[from] ServeError),
    /// The UDP port is taken.
    #[error("UDP port {0} is already in use: stop the program that uses it, or choose another with --tunnel-port")]
    TunnelPort(u16),
    /// The tunnels' device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Where clients reach the tunnels.
    #[error("no tunnel endpoint can be made of --tier2-url ({0}): give --tunnel-endpoint")]
    Endpoint(#[from] TunnelEndpointError),
    /// Where tier1 reaches this API.
    #[error("--tier2-url: {0}")]
    Tier2Url(#[from] DeployEndpointError),
}

/// Prepares a cloudlet with the local driver. To be called on an actix runtime.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: Config) -> Result<Tier2, StartError> {
    let pool = AddressPool::new(&config.client_networks, &RESERVED)?;
    let recipes = Arc::new(Repository::open(&config.recipes)?);
    let state =
        patiently(|| StateDirectory::open(&config.state_directory), |error| matches!(error, StateError::InUse(_)))
            .await?;
    let key = state.private_key()?;
    let public_key = key.public_key();
    let server = patiently(|| bind(&config), |error| matches!(error, ServeError::PortInUse { .. })).await?;
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
    Tier2::assemble(config, server, state, recipes, pool, Arc::new(driver)).await
}

/// As [`start`], with another driver; for tests.
///
/// # Errors
/// See [`StartError`].
pub async fn start_with(config: Config, driver: Arc<dyn Driver>) -> Result<Tier2, StartError> {
    let pool = AddressPool::new(&config.client_networks, &RESERVED)?;
    let recipes = Arc::new(Repository::open(&config.recipes)?);
    let state =
        patiently(|| StateDirectory::open(&config.state_directory), |error| matches!(error, StateError::InUse(_)))
            .await?;
    let server = patiently(|| bind(&config), |error| matches!(error, ServeError::PortInUse { .. })).await?;
    Tier2::assemble(config, server, state, recipes, pool, driver).await
}

impl Tier2 {
    async fn assemble(
        config: Config,
        server: Server,
        state: StateDirectory,
        recipes: Arc<Repository>,
        pool: AddressPool,
        driver: Arc<dyn Driver>,
    ) -> Result<Self, StartError> {
        if !config.host.is_loopback() {
            tracing::warn!(
                host = %config.host,
                "there is no authentication yet: whoever reaches this address may deploy every recipe"
            );
        }
        let cloudlet = state.cloudlet()?;
        let reported = reported(&config, cloudlet)?;
        let registry = Registry::new(Parts {
            driver: Arc::clone(&driver),
            store: state.store(),
            clock: Arc::new(SystemClock),
            policy: Policy::with_lease(config.lease),
            pool,
            max_deployments: config.max_deployments,
        });
        let service = Service::new(registry, recipes, driver, config.request_wait);
        service.restore(&state.deployments()?).await;
        Ok(Self { server, service: web::Data::new(service), cloudlet, config, reported, _state: state })
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The cloudlet's uuid.
    #[must_use]
    pub const fn cloudlet(&self) -> CloudletId {
        self.cloudlet
    }

    /// Serves until SIGTERM or SIGINT, then ends every deployment. Those with a live lease come back at the next
    /// start.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run(self) -> Result<(), ServeError> {
        self.run_until(terminated()).await
    }

    /// As [`Self::run`], until `stop` instead of signals.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let _gauge = metrics::watch(self.service.registry());
        let tasks = self.background();
        let announcement = self.announce();
        let (service, closing) = (self.service.clone(), self.service.clone());
        let stop = async move {
            stop.await;
            closing.close();
        };
        let routes = move |routes: &mut web::ServiceConfig| routes::configure(routes, service.clone());
        let result = self.server.run_until(Readiness::new(), routes, stop).await;
        for task in tasks {
            task.abort();
        }
        if let Ok(announcement) = announcement {
            drop(announcement);
        }
        self.service.registry().shutdown().await;
        result
    }

    fn background(&self) -> Vec<JoinHandle<()>> {
        let ticking = tick(self.service.registry().clone(), self.config.expiry_interval);
        let mut tasks = vec![tokio::spawn(ticking)];
        if let Some(info) = &self.reported {
            for tier1 in &self.config.tier1_urls {
                let reporting = reports::report(tier1.clone(), info.clone(), self.config.report_interval);
                tasks.push(actix_rt::spawn(reporting));
            }
        }
        tasks
    }

    fn announce(&self) -> Result<Option<Announcement>, ()> {
        if !self.config.zeroconf {
            return Ok(None);
        }
        if self.config.host.is_loopback() {
            tracing::warn!("--zeroconf announces an API that others cannot reach: give --host too");
        }
        let announced: Result<_, ZeroconfError> = Announcement::begin(self.cloudlet, self.address().port());
        announced.map(Some).map_err(|error| tracing::warn!("{error}"))
    }
}

/// What tier1 is told, if it is to be told anything.
fn reported(config: &Config, cloudlet: CloudletId) -> Result<Option<CloudletInfo>, DeployEndpointError> {
    let endpoint = match (&config.tier2_url, config.tier1_urls.is_empty()) {
        (Some(url), false) => DeployEndpoint::of_tier(url)?,
        (None, false) => {
            tracing::warn!("not reporting to any tier1: give --tier2-url, the URL where tier1 reaches this cloudlet");
            return Ok(None);
        }
        (_, true) => {
            tracing::info!("not reporting: no --tier1-url is given");
            return Ok(None);
        }
    };
    Ok(Some(CloudletInfo {
        uuid: Some(cloudlet),
        name: config.name.clone(),
        locations: config.location.map(|location| vec![location]),
        ..CloudletInfo::new(endpoint)
    }))
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

async fn terminated() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be awaited: tier2 stops only by SIGKILL");
            std::future::pending().await
        }
    }
}

fn absolute(path: &std::path::Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
