//! The wiring: from a configuration to a running gateway.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, abortable};
use kube::runtime::watcher;
use kube::{Api, Client};
use sinfonia_server::{Readiness, ServeError, Server, ServerOptions};
use sinfonia_tunnel::{HostInterface, PrivateKey};
use thiserror::Error;

use crate::announce::{AnnounceError, Announcer};
use crate::backend::{self, Backend, BackendError, BackendOptions};
use crate::cluster::{
    ClusterError, ClusterPeer, ClusterPod, Nodes, Refusals, connect, follow, internal_address, kilo_annotation,
    patiently, private_key,
};
use crate::config::Config;
use crate::endpoints::{EndpointsError, EndpointsFile, remember};
use crate::keeper::{Keeper, Mirrors};
use crate::metrics::{self, TrafficCollector};
use crate::nft::{Access, RulesError, Table};
use crate::plan::Surroundings;
use crate::reachable::Prober;
use crate::routes::routes;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// How long requests may take to finish at the end: one may be waiting for a deployment.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// How long a gateway may take to end before what it leaves is removed.
const END: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Why a gateway does not start, or ends.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Two programs would write the same annotations and serve the same peers.
    #[error(
        "Kilo is in this cluster: the node {node} has its annotation {annotation}. Remove sinfonia-gateway, since Kilo ends \
         the tunnels itself; or, if Kilo is gone, remove its annotations from the nodes"
    )]
    Kilo {
        /// A node of Kilo's.
        node: String,
        /// What shows it.
        annotation: &'static str,
    },
    /// No address to listen on.
    #[error("the node {0} has no InternalIP address: give --host")]
    NoAddress(String),
    /// Packets would not go on.
    #[error("this node does not forward packets ({FORWARDING} is not 1): set the sysctl net.ipv4.ip_forward=1 on it")]
    NoForwarding,
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The tunnels.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The state directory.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// What the node says.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// HTTP.
    #[error(transparent)]
    Server(#[from] ServeError),
    /// There is one on the node.
    #[error("a gateway still runs on this node: TCP port {port}: {error}. Stop it first")]
    Alive {
        /// Its API's port.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
    /// It was somewhere else.
    #[error(
        "the gateway was on {} and not here: its interface and packet filter rules are still there. Its announcement is \
         withdrawn; for the rest run `sinfonia-gateway --node NODE remove` there", nodes.join(", ")
    )]
    Elsewhere {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// Metrics.
    #[error("the metrics of peers cannot be shown: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Runs a gateway until SIGTERM or SIGINT, on an actix runtime. Rules, interface and routes stay.
///
/// # Errors
/// See [`GatewayError`].
pub async fn run(config: Config) -> Result<(), GatewayError> {
    let client = connect(config.kubeconfig.as_deref()).await?;
    let nodes = Nodes::new(&client);
    refuse_beside_kilo(&nodes).await?;
    let host = host(&config, &nodes).await?;
    check_forwarding()?;
    let key = patiently(|| private_key(&client, &config.namespace)).await?;
    let surroundings = Surroundings {
        client_networks: config.client_networks.clone(),
        node: config.node.clone(),
        namespace: config.namespace.clone(),
        key: key.public_key(),
    };
    let table = Table::new(&config.interface, &config.client_networks);
    // Rules of a gateway before this one stay in force until the cluster is known.
    if !table.exists()? {
        table.replace(&Access::default())?;
    }
    let server_options = ServerOptions {
        host: Some(host),
        workers: Some(1),
        shutdown_deadline: SHUTDOWN,
        ..ServerOptions::new("sinfonia-gateway", config.port)
    };
    let server = Server::bind(server_options)?;
    let file = EndpointsFile::open(&config.state_directory)?;
    let endpoints = file.read();
    let backend = open_backend(&config, key, endpoints.clone()).await?;
    let table = if backend.outlives_gateway() { table.with_tunnels(config.tunnel_port) } else { table };
    sinfonia_telemetry::register(Box::new(TrafficCollector::new(backend.clone())?))?;

    let readiness = Readiness::new();
    let mirrors = Mirrors::new();
    let mut tasks = Tasks::default();
    watch(&client, &mirrors, &readiness, &mut tasks);
    let refusals = Refusals::new(&client, &config.node);
    let announcer = Announcer::new(nodes, &config, surroundings.key, (host, server.address().port()).into());
    let keeper = Keeper::new(mirrors, surroundings, table, backend.clone(), refusals, readiness.clone());
    let _census = metrics::census(keeper.applied());
    let prober = Prober::new(client, keeper.applied());
    tasks.spawn(keeper.run());
    tasks.spawn(remember(file, backend, endpoints));
    serve(server, readiness, prober, announcer).await
}

/// Removes what a gateway leaves on its node for the next one, once it has ended: announcement, interface, rules and
/// clients' endpoints. If it was the `last` of the cluster, no other node may have any of it.
///
/// # Errors
/// See [`GatewayError`]; what can be removed is.
pub async fn remove(config: Config, last: bool) -> Result<(), GatewayError> {
    await_end(config.port).await?;
    // Without the interface no packet of a client passes, so the rules may go.
    let interface = HostInterface { name: config.interface.clone(), mtu: config.mtu, routes: Vec::new() };
    let interface = interface.remove().await.map_err(BackendError::from);
    let rules = match &interface {
        Ok(()) => Table::new(&config.interface, &config.client_networks).remove(),
        Err(_) => Ok(()),
    };
    let endpoints = EndpointsFile::open(&config.state_directory).and_then(|file| file.remove());
    let client = connect(config.kubeconfig.as_deref()).await?;
    let nodes = Nodes::new(&client);
    patiently(|| nodes.withdraw(&config.node)).await?;
    let others = if last { silence_elsewhere(&nodes, &config.node).await? } else { Vec::new() };
    interface?;
    rules?;
    endpoints?;
    if !others.is_empty() {
        return Err(GatewayError::Elsewhere { nodes: others });
    }
    tracing::info!(node = config.node, "nothing of the gateway is left on this node");
    Ok(())
}

/// Has other nodes announce no gateway; those where one was.
async fn silence_elsewhere(nodes: &Nodes, here: &str) -> Result<Vec<String>, ClusterError> {
    let others = patiently(|| nodes.others_with_gateway(here)).await?;
    for node in &others {
        patiently(|| nodes.silence(node)).await?;
    }
    Ok(others)
}

/// Waits until no gateway has the port of its API, at whatever address.
async fn await_end(port: u16) -> Result<(), GatewayError> {
    let deadline = Instant::now() + END;
    while let Err(error) = hold(port) {
        if error.kind() != io::ErrorKind::AddrInUse || Instant::now() >= deadline {
            return Err(GatewayError::Alive { port, error });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The port at all addresses, IPv4's only where there is no IPv6.
fn hold(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        result => result,
    }
}

/// Serves until a signal, or until the node is not ours any more.
async fn serve(server: Server, readiness: Readiness, prober: Prober, announcer: Announcer) -> Result<(), GatewayError> {
    let announcing = announcer.run(readiness.clone());
    let serving = server.run(readiness, routes(prober));
    tokio::select! {
        served = serving => Ok(served?),
        error = announcing => Err(error.into()),
    }
}

async fn refuse_beside_kilo(nodes: &Nodes) -> Result<(), GatewayError> {
    for (node, annotations) in patiently(|| nodes.annotations()).await? {
        if let Some(annotation) = kilo_annotation(&annotations) {
            return Err(GatewayError::Kilo { node, annotation });
        }
    }
    Ok(())
}

async fn host(config: &Config, nodes: &Nodes) -> Result<IpAddr, GatewayError> {
    match config.host {
        Some(host) => Ok(host),
        None => {
            let node = patiently(|| nodes.get(&config.node)).await?;
            internal_address(&node).ok_or_else(|| GatewayError::NoAddress(config.node.clone()))
        }
    }
}

fn check_forwarding() -> Result<(), GatewayError> {
    // What cannot be read is not known to be wrong.
    let is_off = std::fs::read_to_string(PathBuf::from(FORWARDING)).is_ok_and(|text| text.trim() == "0");
    if is_off { Err(GatewayError::NoForwarding) } else { Ok(()) }
}

async fn open_backend(
    config: &Config,
    key: PrivateKey,
    endpoints: backend::Endpoints,
) -> Result<Arc<dyn Backend>, GatewayError> {
    let interface =
        HostInterface { name: config.interface.clone(), mtu: config.mtu, routes: config.client_networks.clone() };
    let options = BackendOptions { wireguard: config.wireguard, key, port: config.tunnel_port, interface, endpoints };
    let backend = backend::open(options).await?;
    tracing::info!(interface = config.interface, port = config.tunnel_port, "tunnels end in {}", backend.name());
    Ok(backend)
}

fn watch(client: &Client, mirrors: &Mirrors, readiness: &Readiness, tasks: &mut Tasks) {
    let peers = Api::all_with(client.clone(), &ClusterPeer::resource());
    let (mirror, listed) = (mirrors.peers.clone(), readiness.block("peers"));
    tasks.spawn(follow(peers, watcher::Config::default(), "peers", ClusterPeer::read, mirror, listed));
    let (mirror, listed) = (mirrors.pods.clone(), readiness.block("pods"));
    let pods = Api::all(client.clone());
    tasks.spawn(follow(pods, watcher::Config::default(), "pods", ClusterPod::read, mirror, listed));
}

/// Tasks that end with the gateway.
#[derive(Default)]
struct Tasks(Vec<AbortHandle>);

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        let (task, handle) = abortable(task);
        actix_rt::spawn(task);
        self.0.push(handle);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
