//! Backends as child processes, each boxed in a network namespace of its own behind one WireGuard device.
//!
//! Every namespace has the same resolver and service addresses: a client only ever sees the one its peer leads to.
//! Namespaces end with this process, whatever ends it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sinfonia_tunnel::Device;
use sinfonia_wire::{PublicKey, Recipe, TunnelEndpoint};

use super::{Driver, InstallError, Installed, Tunnel, Unsupported};
use crate::{
    addresses::AddressPool,
    deployment::{DeploymentId, Plan, Progress},
    lifecycle::Activity,
};

mod install;
mod instance;
mod output;
mod readiness;
mod resolver;

use instance::Instance;

/// The resolver of each namespace; where the resolver of a Kubernetes cluster usually is.
const RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10);

/// The backend of each namespace.
const SERVICE_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 80);
const SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x80);

/// How long a backend may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The networks of resolvers and services, which clients' networks must not overlap.
pub const RESERVED: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 24)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0), 64)),
];

/// Runs backends on this machine. Clones share them.
#[derive(Clone)]
pub struct LocalDriver(Arc<Local>);

struct Local {
    device: Device,
    tunnel: Tunnel,
    pool: AddressPool,
    recipes: Option<PathBuf>,
    hidden: Vec<PathBuf>,
    start_limit: Duration,
    instances: Mutex<HashMap<DeploymentId, Arc<Instance>>>,
    /// Where clients were last seen whose backend is to be made again, to call them then.
    endpoints: Mutex<HashMap<DeploymentId, SocketAddr>>,
}

/// What a local driver works with.
pub struct LocalOptions {
    /// Ends all tunnels.
    pub device: Device,
    /// The device's key.
    pub public_key: PublicKey,
    /// Where clients reach the device.
    pub endpoint: TunnelEndpoint,
    /// Where clients get their addresses.
    pub pool: AddressPool,
    /// The recipes' directory, in which commands run; none if recipes come from a URL.
    pub recipes: Option<PathBuf>,
    /// Directories that commands must not see.
    pub hidden: Vec<PathBuf>,
}

impl LocalDriver {
    /// A driver without deployments.
    #[must_use]
    pub fn new(options: LocalOptions) -> Self {
        let LocalOptions { device, public_key, endpoint, pool, recipes, hidden } = options;
        let everything = |network: IpNet| match network {
            IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        let tunnel = Tunnel {
            public_key,
            endpoint,
            allowed_ips: pool.networks().map(everything).collect(),
            resolvers: addresses(&pool, RESOLVER_V4, RESOLVER_V6),
        };
        Self(Arc::new(Local {
            device,
            tunnel,
            pool,
            recipes,
            hidden,
            start_limit: START_LIMIT,
            instances: Mutex::default(),
            endpoints: Mutex::default(),
        }))
    }
}

impl Driver for LocalDriver {
    fn check(&self, recipe: &Recipe) -> Result<(), Unsupported> {
        let missing = || {
            Unsupported(
                "this cloudlet runs backends without a cluster (--driver local) and the recipe has no `local:` \
                 section: add one with command, port and service, or ask a cloudlet with a cluster"
                    .to_owned(),
            )
        };
        recipe.local.as_ref().map(drop).ok_or_else(missing)
    }

    fn install(&self, plan: Arc<Plan>, progress: Progress) -> BoxFuture<'static, Result<Installed, InstallError>> {
        install::install(Arc::clone(&self.0), plan, progress).boxed()
    }

    fn withdraw(&self, plan: Arc<Plan>) -> BoxFuture<'static, ()> {
        let local = Arc::clone(&self.0);
        async move {
            let instance = local.instances().remove(&plan.id);
            if let Some(instance) = instance {
                if let Some(seen) = local.device.stats(&plan.id.key).and_then(|stats| stats.endpoint) {
                    local.endpoints().insert(plan.id, seen);
                }
                instance.close(&local.device).await;
            }
        }
        .boxed()
    }

    fn remove(&self, plan: Arc<Plan>) -> BoxFuture<'static, ()> {
        self.0.endpoints().remove(&plan.id);
        std::future::ready(()).boxed()
    }

    fn activity(&self, key: &PublicKey) -> Activity {
        match self.0.device.stats(key) {
            // Nobody can use what has no peer.
            None => Activity::Never,
            Some(stats) => newest(stats.last_handshake, stats.last_received),
        }
    }

    fn endpoint(&self, id: &DeploymentId) -> Option<SocketAddr> {
        let seen = self.0.device.stats(&id.key).and_then(|stats| stats.endpoint);
        seen.or_else(|| self.0.endpoints().get(id).copied())
    }

    fn expect(&self, id: DeploymentId, endpoint: SocketAddr) {
        self.0.endpoints().insert(id, endpoint);
    }

    fn tunnel(&self) -> &Tunnel {
        &self.0.tunnel
    }
}

impl Local {
    fn instances(&self) -> MutexGuard<'_, HashMap<DeploymentId, Arc<Instance>>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoints(&self) -> MutexGuard<'_, HashMap<DeploymentId, SocketAddr>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(handshake: Option<Instant>, received: Option<Instant>) -> Activity {
    match handshake.max(received) {
        Some(last) => Activity::Ago(last.elapsed()),
        None => Activity::Never,
    }
}

/// One address for each family of the pool, IPv4 first.
fn addresses(pool: &AddressPool, v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<IpAddr> {
    pool.networks()
        .map(|network| match network {
            IpNet::V4(_) => IpAddr::V4(v4),
            IpNet::V6(_) => IpAddr::V6(v6),
        })
        .collect()
}
