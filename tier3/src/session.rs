//! From deployments to a tunnel with an application in it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use sinfonia_tunnel::{Command, Config, Device, Exit, Namespace};
use sinfonia_wire::{CloudletDeployment, PublicKey};
use tracing::Instrument as _;

use crate::error::TunnelErrors;
use crate::keys::ClaimedKey;
use crate::link::{self, Link};
use crate::{Error, Tier3};

/// The prompt of a shell in the tunnel.
pub const PROMPT: &str = "sinfonia$ ";

/// A deployment that is not used being released.
type Releasing = tokio::task::JoinHandle<()>;

/// A deployment request under way: await it for the [`Deployments`].
#[must_use = "dropping it abandons the request"]
pub struct Deploying {
    lease: Lease,
    answer: BoxFuture<'static, Result<Deployments, Error>>,
}

impl Deploying {
    pub(crate) fn new(lease: Lease, answer: BoxFuture<'static, Result<Deployments, Error>>) -> Self {
        Self { lease, answer }
    }

    /// What to end the deployments by, also when this was given up: the cloudlet may have begun.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }
}

impl Future for Deploying {
    type Output = Result<Deployments, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.poll_unpin(context)
    }
}

impl std::fmt::Debug for Deploying {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Deploying").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Backends that wait for this client, and the key that opens the tunnel to each.
#[derive(Debug)]
pub struct Deployments {
    client: Tier3,
    key: ClaimedKey,
    list: Vec<CloudletDeployment>,
}

impl Deployments {
    /// At least one deployment.
    pub(crate) fn new(client: Tier3, key: ClaimedKey, list: Vec<CloudletDeployment>) -> Self {
        Self { client, key, list }
    }

    /// The deployments, best first; at least one.
    #[must_use]
    pub fn list(&self) -> &[CloudletDeployment] {
        &self.list
    }

    /// The tunnel to the best deployment, for use by another WireGuard implementation.
    ///
    /// # Errors
    /// [`Error::Tunnel`] when the cloudlet's answer describes no usable tunnel.
    pub fn config(&self) -> Result<Config, Error> {
        link::config(&self.list[0], &self.key).map_err(|error| Error::Tunnel(TunnelErrors(vec![error])))
    }

    /// What to end them by, also when a connection to them was given up.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease::new(&self.client, &self.key)
    }

    /// A tunnel to the first deployment that answers; the others are released.
    ///
    /// # Errors
    /// [`Error::Tunnel`] when none answers, [`Error::Namespace`].
    pub async fn connect(self) -> Result<Tunnel, Error> {
        let namespace = self.client.namespace().await?;
        self.connect_in(namespace).await
    }

    /// The same, in a namespace made before with [`Tier3::namespace`].
    ///
    /// # Errors
    /// [`Error::Tunnel`] when none answers, [`Error::Namespace`].
    pub async fn connect_in(self, namespace: Namespace) -> Result<Tunnel, Error> {
        let span = tracing::info_span!(
            "handshake",
            sinfonia.deployment = tracing::field::Empty,
            network.peer.address = tracing::field::Empty,
        );
        let lease = self.lease();
        let result = self.race(namespace).instrument(span).await;
        if result.is_err() {
            lease.end_if_wanted().await;
        }
        result
    }

    /// Each deployment gets a namespace, a socket and a key of its own, so that the first that answers is complete
    /// and the others go without trace.
    async fn race(mut self, namespace: Namespace) -> Result<Tunnel, Error> {
        let mut spare = Some(namespace);
        let mut attempts: FuturesUnordered<_> = self
            .list
            .iter()
            .enumerate()
            .map(|(index, deployment)| {
                let namespace = spare.take();
                let (client, key) = (&self.client, &self.key);
                async move { (index, link::attempt(client, key, deployment, namespace).await) }
            })
            .collect();
        let mut errors = TunnelErrors(Vec::new());
        while let Some((index, result)) = attempts.next().await {
            match result {
                Ok(link) => {
                    drop(attempts);
                    let deployment = self.list.swap_remove(index);
                    let span = tracing::Span::current();
                    span.record("network.peer.address", tracing::field::display(link.endpoint.ip().to_canonical()));
                    if let Some(name) = &deployment.deployment_name {
                        span.record("sinfonia.deployment", name.as_str());
                    }
                    let releasing = self.release_others(&deployment);
                    let Self { client, key, .. } = self;
                    return Ok(Tunnel { client, key, deployment, link, releasing });
                }
                Err(error) => errors.0.push(error),
            }
        }
        Err(errors.into())
    }

    /// Starts releasing what is left in the list. Without its cloudlet's UUID a deployment cannot be addressed.
    fn release_others(&self, used: &CloudletDeployment) -> Vec<Releasing> {
        let others = self.list.iter().filter_map(|other| other.cloudlet);
        others
            .filter(|cloudlet| used.cloudlet != Some(*cloudlet))
            .map(|cloudlet| tokio::spawn(self.client.start_release(&self.key.public_key(), Some(cloudlet))))
            .collect()
    }
}

/// The hold of a client on its deployments.
#[derive(Debug, Clone)]
pub struct Lease {
    client: Tier3,
    key: PublicKey,
    wanted: bool,
}

impl Lease {
    pub(crate) fn new(client: &Tier3, key: &ClaimedKey) -> Self {
        Self { client: client.clone(), key: key.public_key(), wanted: client.releases(key.is_kept()) }
    }

    /// Ends all deployments of this client and application now. Waits a few seconds at most; a failure is logged.
    pub async fn end(&self) {
        self.client.start_release(&self.key, None).await;
    }

    /// The same, if the client was built to release, or if its key was for this run only.
    pub async fn end_if_wanted(&self) {
        if self.wanted {
            self.end().await;
        }
    }
}

/// A tunnel to a backend, and the namespace in which everything goes through it.
pub struct Tunnel {
    client: Tier3,
    key: ClaimedKey,
    deployment: CloudletDeployment,
    link: Link,
    releasing: Vec<Releasing>,
}

impl Tunnel {
    /// The deployment at the other end.
    #[must_use]
    pub fn deployment(&self) -> &CloudletDeployment {
        &self.deployment
    }

    /// Where the other end is.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        self.link.endpoint
    }

    /// How long the handshake took.
    #[must_use]
    pub fn handshake_time(&self) -> Duration {
        self.link.handshake_time
    }

    /// The namespace, to run commands or open sockets in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.link.namespace
    }

    /// The tunnel's traffic.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.link.device
    }

    /// Starts a command in the namespace, with the prompt [`PROMPT`] if it is a shell.
    ///
    /// # Errors
    /// [`Error::Namespace`] when it does not exist or cannot be executed.
    pub async fn start(&self, mut command: Command) -> Result<(), Error> {
        command.env.entry("PS1".into()).or_insert_with(|| PROMPT.into());
        Ok(self.link.namespace.spawn(command).await?)
    }

    /// Runs a command in the namespace to its end.
    ///
    /// # Errors
    /// As [`Tunnel::start`].
    pub async fn run(&self, command: Command) -> Result<Exit, Error> {
        let span = tracing::info_span!("run", process.executable.name = ?command.program);
        async {
            self.start(command).await?;
            Ok(self.link.namespace.exited().await)
        }
        .instrument(span)
        .await
    }

    /// Ends everything in the namespace, the tunnel, and the deployment if it was asked to or nobody can come back.
    pub async fn close(self) {
        let Self { client, key, deployment, link, releasing } = self;
        let Link { namespace, device, .. } = link;
        namespace.close().await;
        drop(device);
        if client.releases(key.is_kept()) {
            client.start_release(&key.public_key(), deployment.cloudlet).await;
        }
        futures_util::future::join_all(releasing).await;
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { deployment, link, .. } = self;
        formatter
            .debug_struct("Tunnel")
            .field("deployment", &deployment.deployment_name)
            .field("endpoint", &link.endpoint)
            .finish_non_exhaustive()
    }
}
