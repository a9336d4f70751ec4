//! Listening, serving and stopping.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::time::Duration;

use actix_web::middleware::{Compress, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use futures_util::future::{self, Either, select};
use sinfonia_tls::{Certificate, TlsError};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};

use crate::encoding::uncompressed;
use crate::observe::observe;
use crate::problem::{json_config, path_config, problems, query_config};
use crate::readiness::Readiness;
use crate::routes::{common_routes, unmatched};
use crate::slow::{HEAD_LIMIT, in_time};

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Name of the program, for its log.
    pub service: &'static str,
    /// Address to listen on; all of this host's, IPv4 and IPv6, if there is none or it is `::`.
    pub host: Option<IpAddr>,
    /// TCP port; 0 for a free one.
    pub port: u16,
    /// Number of threads that serve; one for each processor if there is none.
    pub workers: Option<usize>,
    /// What to show; plain HTTP is served if there is none, and only then.
    pub certificate: Option<Certificate>,
    /// How long to go on listening, not ready, once the server is told to stop: so that balancers send nobody here
    /// any more.
    pub shutdown_delay: Duration,
    /// How long requests may take to finish after that.
    pub shutdown_deadline: Duration,
}

impl ServerOptions {
    /// Plain HTTP on all addresses, with 10 s to finish requests at the end.
    pub fn new(service: &'static str, port: u16) -> Self {
        Self {
            service,
            host: None,
            port,
            workers: None,
            certificate: None,
            shutdown_delay: Duration::ZERO,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else listens there.
    #[error(
        "port {} is already in use ({address}): stop the program that uses it, or choose another with --port",
        address.port()
    )]
    PortInUse {
        /// Where.
        address: SocketAddr,
    },
    /// Ports below 1024 are often for root only.
    #[error(
        "not permitted to listen on port {} ({address}): choose one above 1023 with --port",
        address.port()
    )]
    NotPermitted {
        /// Where.
        address: SocketAddr,
    },
    /// Any other reason not to be able to listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server broke down.
    #[error("the server broke down")]
    Broken(#[source] io::Error),
}

/// A server that has its port but does not answer yet.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    listener: TcpListener,
    address: SocketAddr,
}

/// Listens and serves until SIGTERM or SIGINT: [`Server::bind`] and [`Server::run`].
pub async fn serve<F>(options: ServerOptions, readiness: Readiness, routes: F) -> Result<(), ServeError>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    Server::bind(options)?.run(readiness, routes).await
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// If the port is taken, or this host does not let us have it.
    pub fn bind(options: ServerOptions) -> Result<Self, ServeError> {
        let wanted = |host| SocketAddr::new(host, options.port);
        let (listener, address) = match options.host.filter(|host| *host != IpAddr::from(Ipv6Addr::UNSPECIFIED)) {
            Some(host) => (listen(wanted(host)), wanted(host)),
            None => match listen(wanted(Ipv6Addr::UNSPECIFIED.into())) {
                // A host without IPv6.
                Err(error) if error.raw_os_error().is_some() && !is_taken(&error) => {
                    let address = wanted(Ipv4Addr::UNSPECIFIED.into());
                    (listen(address), address)
                }
                result => (result, wanted(Ipv6Addr::UNSPECIFIED.into())),
            },
        };
        let listener = listener.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortInUse { address },
            io::ErrorKind::PermissionDenied => ServeError::NotPermitted { address },
            _ => ServeError::Listen { address, source },
        })?;
        let address = listener.local_addr().map_err(ServeError::Broken)?;
        Ok(Self { options, listener, address })
    }

    /// The address it listens on, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` beside the common ones until SIGTERM or SIGINT, then goes on for the shutdown delay, then lets
    /// requests in flight finish; a second signal ends all that.
    ///
    /// # Errors
    /// If the server breaks down.
    pub async fn run<F>(self, readiness: Readiness, routes: F) -> Result<(), ServeError>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        // The first signal is awaited from now on; a second one only counts after it.
        self.run_with(readiness, routes, termination(), async { termination().await }).await
    }

    /// As [`Server::run`], until `stop` is done instead of signals.
    ///
    /// # Errors
    /// If the server breaks down.
    pub async fn run_until<F>(
        self,
        readiness: Readiness,
        routes: F,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        self.run_with(readiness, routes, stop, future::pending()).await
    }

    async fn run_with<F>(
        self,
        readiness: Readiness,
        routes: F,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let Self { options, listener, address } = self;
        let shown = web::Data::new(readiness.clone());
        let mut server = HttpServer::new(move || {
            App::new()
                .app_data(shown.clone())
                .app_data(json_config())
                .app_data(path_config())
                .app_data(query_config())
                .app_data(web::PayloadConfig::new(crate::BODY_LIMIT))
                .configure(common_routes)
                .configure(routes.clone())
                .default_service(web::to(unmatched))
                .wrap(from_fn(in_time))
                .wrap(from_fn(uncompressed))
                .wrap(from_fn(problems))
                .wrap(Compress::default())
                .wrap(from_fn(observe))
        })
        .disable_signals()
        .client_request_timeout(HEAD_LIMIT)
        // Whole seconds are what it takes.
        .shutdown_timeout(options.shutdown_deadline.as_secs().max(1));
        if let Some(workers) = options.workers {
            server = server.workers(workers.max(1));
        }
        let server = match &options.certificate {
            Some(certificate) => server.listen_rustls_0_23(listener, certificate.server_config()?),
            None => server.listen(listener),
        };
        let server = server.map_err(ServeError::Broken)?.run();
        let _following = options.certificate.map(|certificate| Following(tokio::spawn(certificate.follow())));
        let handle = server.handle();
        let server = pin!(server);
        tracing::info!(%address, "{} listens", options.service);

        let server = match select(server, pin!(stop)).await {
            Either::Left((result, _)) => return result.map_err(ServeError::Broken),
            Either::Right(((), server)) => server,
        };
        let _stopping = readiness.block("shutdown");
        let hurry = pin!(hurry);
        let (server, hurry) = if options.shutdown_delay.is_zero() {
            (server, hurry)
        } else {
            tracing::info!("{} is no longer ready, and stops in {:?}", options.service, options.shutdown_delay);
            let delay = pin!(tokio::time::sleep(options.shutdown_delay));
            let patience = select(delay, hurry);
            match select(server, patience).await {
                Either::Left((result, _)) => return result.map_err(ServeError::Broken),
                Either::Right((Either::Left(((), hurry)), server)) => (server, hurry),
                Either::Right((Either::Right(((), _)), server)) => {
                    let _ended = handle.stop(false);
                    return server.await.map_err(ServeError::Broken);
                }
            }
        };
        tracing::info!("{} stops when the requests in flight are answered", options.service);
        let _answered = handle.stop(true);
        let result = match select(server, hurry).await {
            Either::Left((result, _)) => result,
            Either::Right(((), server)) => {
                let _ended = handle.stop(false);
                server.await
            }
        };
        result.map_err(ServeError::Broken)
    }
}

/// Ends with the server.
struct Following(tokio::task::JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Done at the next SIGTERM or SIGINT from now on.
fn termination() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                select(pin!(terminate.recv()), pin!(interrupt.recv())).await;
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be awaited: the server stops only by SIGKILL");
                future::pending().await
            }
        }
    }
}
