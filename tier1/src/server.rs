//! Putting the parts together.

use crate::{
    Config,
    cloudlets::{self, CloudletsError},
    domain::{Chain, Cloudlet, Holders, Origin},
    geoip::{GeoIp, GeoIpError},
    metrics::Metrics,
    resolve::{Policy, Resolver},
    routes::routes,
    service::{Service, registration},
    store::Registry,
};
use actix_web::rt;
use futures_util::{StreamExt as _, stream};
use sinfonia_recipes::{OpenError, Repository};
use sinfonia_server::{Readiness, ServeError, Server, ServerOptions};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::{sync::oneshot, task::JoinHandle, time::interval};
use tracing::{error, info, warn};

/// How often silent cloudlets are looked for.
const EXPIRY: Duration = Duration::from_secs(5);
/// How many names of configured cloudlets are resolved at once.
const LOOKUPS: usize = 64;

/// Why a tier1 does not start or run.
#[derive(Debug, Error)]
pub enum StartError {
    /// The operator's list is not usable.
    #[error(transparent)]
    Cloudlets(#[from] CloudletsError),
    /// The recipes are not usable.
    #[error(transparent)]
    Recipes(#[from] OpenError),
    /// The GeoIP database is not usable.
    #[error(transparent)]
    GeoIp(#[from] GeoIpError),
    /// Names cannot be resolved.
    #[error("no resolver: {0}")]
    Resolver(String),
    /// It cannot listen, or broke down.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A tier1 that has its port and its configuration but does not answer yet.
#[derive(Debug)]
pub struct Tier1 {
    server: Server,
    service: Arc<Service>,
}

/// A tier1 that answers.
#[derive(Debug)]
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StartError>>,
}

/// Runs a tier1 until SIGTERM or SIGINT.
///
/// # Errors
/// When it does not start, or breaks down.
pub async fn run(config: Config) -> Result<(), StartError> {
    Tier1::bind(config).await?.run().await
}

/// Starts a tier1 beside whatever else the program does.
///
/// # Errors
/// When it does not start.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let tier1 = Tier1::bind(config).await?;
    let (stop, stopped) = oneshot::channel();
    let address = tier1.address();
    let until = async {
        // Stops as well when whoever started it is gone.
        let _ = stopped.await;
    };
    Ok(Running { address, stop, task: rt::spawn(tier1.run_until(until)) })
}

impl Running {
    /// Stops it and waits until it has stopped.
    ///
    /// # Errors
    /// When it broke down.
    pub async fn stop(self) -> Result<(), StartError> {
        drop(self.stop);
        self.task.await.unwrap_or(Ok(()))
    }
}

impl Tier1 {
    /// Reads what the configuration names and takes the port.
    ///
    /// # Errors
    /// When either is not possible.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        // Fails only if there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let recipes = Repository::open(&config.recipes)?;
        let geoip = config.geoip.as_deref().map_or_else(|| Ok(GeoIp::default()), GeoIp::open)?;
        let listed = config.cloudlets.as_deref().map_or_else(|| Ok(Vec::new()), cloudlets::read)?;
        let options = ServerOptions {
            host: Some(config.host),
            workers: config.workers,
            ..ServerOptions::new("sinfonia-tier1", config.port)
        };
        let server = Server::bind(options)?;
        if !config.host.is_loopback() {
            warn!(host = %config.host, "tier1 does not ask callers who they are: keep it inside a trusted network");
        }
        let listening = server.address();
        let policy = if config.allow_local_endpoints { Policy::Any } else { Policy::NotLocal { listening } };
        let registry = Arc::new(Registry::new(configured(listed, &geoip).await?));
        let service = Service {
            metrics: Metrics::new(&sinfonia_telemetry::meter(), Arc::downgrade(&registry)),
            registry,
            chain: Chain::new(config.matchers()),
            holders: Holders::default(),
            recipes,
            geoip,
            trusted_proxies: config.trusted_proxies,
            policy,
            limits: config.limits,
        };
        Ok(Self { server, service: Arc::new(service) })
    }

    /// Where it listens, with the port that was chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run(self) -> Result<(), StartError> {
        let expiry = Expiry::start(&self.service);
        let result = self.server.run(Readiness::new(), configure(self.service)).await;
        drop(expiry);
        Ok(result?)
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let expiry = Expiry::start(&self.service);
        let result = self.server.run_until(Readiness::new(), configure(self.service), stop).await;
        drop(expiry);
        Ok(result?)
    }
}

/// Called once in each serving thread.
fn configure(service: Arc<Service>) -> impl Fn(&mut actix_web::web::ServiceConfig) + Clone + Send + 'static {
    move |config| match Resolver::new() {
        Ok(resolver) => routes(&service, &service.outgoing(resolver), config),
        Err(error) => error!(%error, "this thread cannot resolve names and serves nothing"),
    }
}

async fn configured(listed: Vec<sinfonia_wire::CloudletInfo>, geoip: &GeoIp) -> Result<Vec<Cloudlet>, StartError> {
    let resolver = Resolver::new().map_err(|error| StartError::Resolver(error.to_string()))?;
    let registrations = listed.into_iter().map(|info| {
        let resolver = &resolver;
        async move { registration(info, Origin::Configured, resolver, Policy::Any, geoip).await }
    });
    let found: Vec<_> = stream::iter(registrations).buffered(LOOKUPS).collect().await;
    // Every entry has an identity, and none is refused under this policy.
    let cloudlets: Vec<_> = found.into_iter().flatten().filter_map(|found| Cloudlet::try_from(found).ok()).collect();
    info!(count = cloudlets.len(), "cloudlets configured");
    Ok(cloudlets)
}

/// Drops silent cloudlets for as long as it lives.
struct Expiry(JoinHandle<()>);

impl Expiry {
    fn start(service: &Arc<Service>) -> Self {
        let registry = Arc::clone(&service.registry);
        Self(rt::spawn(async move {
            let mut ticks = interval(EXPIRY);
            loop {
                ticks.tick().await;
                let dropped = registry.expire(Instant::now()).await;
                if dropped > 0 {
                    info!(dropped, "cloudlets have not reported for 5 minutes");
                }
            }
        }))
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.0.abort();
    }
}
