//! The wiring: from a configuration to a running cloudlet.

use std::{net::SocketAddr, sync::Arc};

use actix_web::web;
use futures_util::future::{BoxFuture, FutureExt as _};
use sinfonia_recipes::{OpenError, Repository};
use sinfonia_server::{Readiness, ServeError, Server};
use sinfonia_tls::{ClientConfig, TlsError};
use sinfonia_tunnel::DeviceError;
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint, DeployEndpointError, TunnelEndpointError};
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    addresses::PoolError,
    admin::Admin,
    config::{Config, DriverConfig},
    deployments::Deployments,
    driver::Driver,
    kubernetes,
    report_fields::ReportFields,
    reports::{NotReady, ReportSource, Reporter},
    routes::{self, Face},
    state::StateError,
    zeroconf::{Announcement, ZeroconfError},
};

mod local;
mod opening;

use opening::{bind, patiently};

/// A cloudlet that has its ports and knows its deployments, but does not answer yet.
pub struct Tier2 {
    server: Server,
    cloudlet: Box<dyn Cloudlet>,
    config: Config,
    trust: Option<Arc<ClientConfig>>,
    endpoint: Option<DeployEndpoint>,
}

/// What a driver brings to a running cloudlet.
pub trait Cloudlet {
    /// The cloudlet's uuid.
    fn id(&self) -> CloudletId;

    /// The deployments.
    fn deployments(&self) -> Arc<dyn Deployments>;

    /// What tier1 is told.
    fn report_source(&self, endpoint: DeployEndpoint, fields: ReportFields) -> Arc<dyn ReportSource>;

    /// Starts what runs beside the server.
    fn begin(&self) -> Vec<JoinHandle<()>>;

    /// Ends when requests can be answered.
    fn ready(&self) -> BoxFuture<'static, ()>;

    /// Lets waiting requests end, because tier2 stops.
    fn close(&self);

    /// Ends what has to end with tier2.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
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
    /// Whose certificates are trusted.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    /// The cluster.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::StartError),
}

/// Prepares a cloudlet. To be called on an actix runtime.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: Config) -> Result<Tier2, StartError> {
    match config.driver.clone() {
        DriverConfig::Local => {
            let (server, local) = local::start(&config).await?;
            Tier2::assemble(config, server, Box::new(local))
        }
        DriverConfig::Kubernetes(options) => {
            let recipes = Arc::new(Repository::open(&config.recipes)?);
            let server = patiently(|| bind(&config), |error| matches!(error, ServeError::PortInUse { .. })).await?;
            let cloudlet = kubernetes::start(&config, *options, recipes).await?;
            Tier2::assemble(config, server, cloudlet)
        }
    }
}

/// As [`start`] with the local driver, but with another one in its place; for tests.
///
/// # Errors
/// See [`StartError`].
pub async fn start_with(config: Config, driver: Arc<dyn Driver>) -> Result<Tier2, StartError> {
    let (server, local) = local::start_with(&config, driver).await?;
    Tier2::assemble(config, server, Box::new(local))
}

impl Tier2 {
    fn assemble(config: Config, server: Server, cloudlet: Box<dyn Cloudlet>) -> Result<Self, StartError> {
        if !config.host.is_loopback() && config.deploy_token.is_none() {
            tracing::warn!(
                host = %config.host,
                "whoever reaches this address may deploy every recipe: give --deploy-token-file, or keep it inside a \
                 trusted network"
            );
        }
        let endpoint = announced_endpoint(&config)?;
        let trust = config.trust.client_config()?;
        Ok(Self { server, cloudlet, config, trust, endpoint })
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The cloudlet's uuid.
    #[must_use]
    pub fn cloudlet(&self) -> CloudletId {
        self.cloudlet.id()
    }

    /// Serves until SIGTERM or SIGINT, then ends what the driver wants ended.
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
        let readiness = Readiness::new();
        let preparing = readiness.block("deployments");
        let ready = self.cloudlet.ready();
        let mut tasks = self.cloudlet.begin();
        tasks.push(tokio::spawn(async move {
            ready.await;
            drop(preparing);
        }));
        let reporter = self.reporter();
        if let Some(reporter) = &reporter {
            let reporting = self.config.tier1_urls.iter().map(|tier1| reporter.clone().report(tier1.clone()));
            tasks.extend(reporting.map(actix_rt::spawn));
        }
        let announcement = self.announce();
        let face = self.face(reporter);
        let cloudlet = &self.cloudlet;
        let stop = async move {
            stop.await;
            cloudlet.close();
        };
        let routes = move |routes: &mut web::ServiceConfig| routes::configure(routes, face.clone());
        let result = self.server.run_until(readiness, routes, stop).await;
        for task in tasks {
            task.abort();
        }
        if let Ok(announcement) = announcement {
            drop(announcement);
        }
        self.cloudlet.shutdown().await;
        result
    }

    fn face(&self, reporter: Option<Reporter>) -> Face {
        Face {
            deployments: self.cloudlet.deployments(),
            admin: Admin::new(self.config.admin_token.clone()),
            deploy_token: self.config.deploy_token.clone(),
            trusted_proxies: self.config.trusted_proxies.clone().into(),
            drained: Arc::new(move || {
                if let Some(reporter) = &reporter {
                    reporter.tell_now();
                }
            }),
        }
    }

    fn reporter(&self) -> Option<Reporter> {
        let source = self.cloudlet.report_source(self.endpoint.clone()?, self.config.report.clone());
        let source = DrainReport { source, deployments: self.cloudlet.deployments() };
        let reporter = Reporter::new(Arc::new(source), self.config.report_interval, self.trust.clone());
        Some(reporter.with_token(self.config.tier1_token.clone()))
    }

    fn announce(&self) -> Result<Option<Announcement>, ()> {
        if !self.config.zeroconf {
            return Ok(None);
        }
        if self.config.host.is_loopback() {
            tracing::warn!("--zeroconf announces an API that others cannot reach: give --host too");
        }
        let announced: Result<_, ZeroconfError> = Announcement::begin(self.cloudlet(), self.address().port());
        announced.map(Some).map_err(|error| tracing::warn!("{error}"))
    }
}

/// A report that also says whether the cloudlet is being drained.
struct DrainReport {
    source: Arc<dyn ReportSource>,
    deployments: Arc<dyn Deployments>,
}

impl ReportSource for DrainReport {
    fn report(&self) -> BoxFuture<'_, Result<CloudletInfo, NotReady>> {
        async move {
            let info = self.source.report().await?;
            Ok(CloudletInfo { draining: self.deployments.is_draining(), ..info })
        }
        .boxed()
    }
}

/// Where tier1 is told to send requests, if it is to be told anything.
fn announced_endpoint(config: &Config) -> Result<Option<DeployEndpoint>, DeployEndpointError> {
    match (&config.tier2_url, config.tier1_urls.is_empty()) {
        (Some(url), false) => DeployEndpoint::of_tier(url).map(Some),
        (None, false) => {
            tracing::warn!("not reporting to any tier1: give --tier2-url, the URL where tier1 reaches this cloudlet");
            Ok(None)
        }
        (_, true) => {
            tracing::info!("not reporting: no --tier1-url is given");
            Ok(None)
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
