//! Putting the parts together.

use crate::{
    Config,
    access::{self, Tokens, TokensFileError},
    cloudlets::{self, CloudletsError},
    domain::{Chain, Cloudlet, Origin, Setbacks},
    geoip::{GeoIp, GeoIpError},
    metrics::Metrics,
    resolve::{Policy, Resolver},
    routes::{RateLimit, routes},
    service::{Service, registration},
    store::{self, DatabaseError, OptionsError, Registry, Store},
};
use actix_web::{rt, web::ServiceConfig};
use futures_util::{StreamExt as _, stream};
use sinfonia_credentials::{SourceError, TokenSource};
use sinfonia_recipes::{OpenError, Repository};
use sinfonia_server::{Readiness, ServeError, Server, ServerOptions};
use sinfonia_tls::TlsError;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::{error, info, warn};

/// How many names of configured cloudlets are resolved at once.
const LOOKUPS: usize = 64;

/// What a deploy that takes as long as it may needs beside that, to be answered when told to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    /// Where the database is, is not clear.
    #[error(transparent)]
    Database(#[from] OptionsError),
    /// The database can be reached but not used.
    #[error("the database cannot be used: {0}")]
    Unusable(#[source] DatabaseError),
    /// The file of tokens is not usable.
    #[error(transparent)]
    Tokens(#[from] TokensFileError),
    /// The token for cloudlets is not usable.
    #[error(transparent)]
    CloudletToken(#[from] SourceError),
    /// Everybody could do everything.
    #[error(
        "tier1 would let everybody who reaches {host} in: give --tokens-file, or --database-url and make tokens by \
         `sinfonia-tier1 token create`; --insecure-open lets everybody in all the same"
    )]
    Open {
        /// Where it would listen.
        host: IpAddr,
    },
    /// The server's certificate, or those to trust, are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It cannot listen, or broke down.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A tier1 that has its port and its configuration but does not answer yet.
#[derive(Debug)]
pub struct Tier1 {
    server: Server,
    service: Arc<Service>,
    tokens_file: Option<PathBuf>,
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
        let addresses = config.database.addresses()?;
        check_access(&config, addresses.is_some())?;
        let tokens = Arc::new(Tokens::default());
        if let Some(path) = &config.tokens_file {
            tokens.replace_file(access::read(path)?);
            sinfonia_credentials::warn_if_exposed(path);
        }
        let cloudlet_token = cloudlet_token(&config)?;
        let recipes = Repository::open(&config.recipes)?;
        let geoip = config.geoip.as_deref().map_or_else(|| Ok(GeoIp::default()), GeoIp::open)?;
        let listed = config.cloudlets.as_deref().map_or_else(|| Ok(Vec::new()), cloudlets::read)?;
        let server = Server::bind(options(&config)?)?;
        if config.insecure_open {
            warn!(host = %config.host, "tier1 lets everybody in: keep it inside a trusted network");
        }
        let listening = server.address();
        let policy = if config.allow_local_endpoints { Policy::Any } else { Policy::NotLocal { listening } };
        let registry = Arc::new(Registry::new(configured(listed, &geoip).await?));
        let (store, holders) = match addresses {
            None => Store::in_memory(Arc::clone(&registry)),
            Some(addresses) => {
                let opened = Store::open(Arc::clone(&registry), Arc::clone(&tokens), addresses, &config.database).await;
                opened.map_err(StartError::Unusable)?
            }
        };
        let service = Service {
            metrics: Metrics::new(&sinfonia_telemetry::meter(), Arc::downgrade(&registry)),
            registry,
            chain: Chain::new(config.matchers()),
            store,
            holders,
            setbacks: Setbacks::default(),
            recipes,
            geoip,
            trusted_proxies: config.trusted_proxies,
            rate_limit: NonZeroU32::new(config.rate_limit).map(RateLimit::new),
            tokens,
            has_tokens_file: config.tokens_file.is_some(),
            cloudlet_token,
            is_open: config.insecure_open,
            policy,
            limits: config.limits,
            trust: config.trust.client_config()?,
        };
        Ok(Self { server, service: Arc::new(service), tokens_file: config.tokens_file })
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
        self.run_with(|_| ()).await
    }

    /// Serves these routes beside its own until SIGTERM or SIGINT; [`known_only`](crate::known_only) guards them alike.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run_with(self, more: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> Result<(), StartError> {
        let (readiness, beside, following) = self.begin().await;
        let own = configure(self.service);
        let routes = move |config: &mut ServiceConfig| {
            own(config);
            more(config);
        };
        let result = self.server.run(readiness, routes).await;
        following.inspect(JoinHandle::abort);
        beside.stop().await;
        Ok(result?)
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the server breaks down.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let (readiness, beside, following) = self.begin().await;
        let result = self.server.run_until(readiness, configure(self.service), stop).await;
        following.inspect(JoinHandle::abort);
        beside.stop().await;
        Ok(result?)
    }

    async fn begin(&self) -> (Readiness, store::Running, Option<JoinHandle<()>>) {
        let readiness = Readiness::new();
        let beside = self.service.store.start(&readiness).await;
        let tokens = Arc::clone(&self.service.tokens);
        let following = self.tokens_file.clone().map(|path| rt::spawn(access::follow(path, tokens)));
        (readiness, beside, following)
    }
}

/// Refuses to let everybody in unless that is wanted.
pub(crate) fn check_access(config: &Config, has_database: bool) -> Result<(), StartError> {
    let is_closed = has_database || config.tokens_file.is_some();
    if config.host.is_loopback() || is_closed || config.insecure_open {
        return Ok(());
    }
    Err(StartError::Open { host: config.host })
}

/// What tier1 presents to cloudlets.
pub(crate) fn cloudlet_token(config: &Config) -> Result<Option<TokenSource>, SourceError> {
    TokenSource::find("--cloudlet-token-file", config.cloudlet_token_file.as_deref(), "SINFONIA_CLOUDLET_TOKEN")
}

fn options(config: &Config) -> Result<ServerOptions, TlsError> {
    Ok(ServerOptions {
        host: Some(config.host),
        workers: config.workers,
        certificate: config.tls.open()?,
        shutdown_delay: Duration::from_secs(config.shutdown_delay.into()),
        shutdown_deadline: config.limits.total + LAST_WORDS,
        ..ServerOptions::new("sinfonia-tier1", config.port)
    })
}

/// Called once in each serving thread.
fn configure(service: Arc<Service>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SAVING;
    use std::{fs, path::Path};

    #[test]
    fn what_is_begun_may_end_as_it_would_have() {
        let config = Config { shutdown_delay: 7, ..Config::default() };
        let options = options(&config).unwrap();
        assert!(options.shutdown_deadline > config.limits.total);
        assert_eq!(options.shutdown_delay, Duration::from_secs(7));

        // And Kubernetes does not kill it before.
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/sinfonia-tier1/templates/deployment.yaml");
        let chart = fs::read_to_string(chart).unwrap();
        let beside = chart.split("terminationGracePeriodSeconds: {{ add .Values.shutdownDelaySeconds ").nth(1).unwrap();
        let beside = Duration::from_secs(beside.split(' ').next().unwrap().parse().unwrap());
        assert!(beside > options.shutdown_deadline + SAVING, "{beside:?}");
    }
}
