//! What ends the tunnels: WireGuard in this process, or in the kernel.

mod kernel;
mod userspace;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use sinfonia_tunnel::{
    DeviceError, HostInterface, HostInterfaceError, KernelDevice, KernelError, PeerStats, PrivateKey,
};
use sinfonia_wire::PublicKey;
use thiserror::Error;

use crate::config::WireGuard;
use crate::plan::TunnelPeer;
use kernel::Kernel;
use userspace::Userspace;

/// The peers that tunnels are to end for.
pub type Peers = BTreeMap<PublicKey, TunnelPeer>;

/// Where peers were seen last.
pub type Endpoints = BTreeMap<PublicKey, SocketAddr>;

/// What went through a peer's tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// When the newest session began.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received from the peer.
    pub received_bytes: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Where its packets come from.
    pub endpoint: Option<SocketAddr>,
}

impl From<PeerStats> for Traffic {
    fn from(stats: PeerStats) -> Self {
        Self {
            last_handshake: stats.last_handshake.and_then(|instant| SystemTime::now().checked_sub(instant.elapsed())),
            received_bytes: stats.received_bytes,
            sent_bytes: stats.sent_bytes,
            endpoint: stats.endpoint,
        }
    }
}

/// The end of all clients' tunnels. Its calls take less than a few milliseconds.
pub trait Backend: Send + Sync {
    /// What it is called in logs.
    fn name(&self) -> &'static str;

    /// Whether the tunnels answer clients when no gateway runs.
    fn outlives_gateway(&self) -> bool;

    /// Ends the tunnels of peers that are not in `peers`, or differ there.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn retain(&self, peers: &Peers) -> Result<(), BackendError>;

    /// Makes the peers exactly those in `peers`. Tunnels of those that stay as they were go on.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn apply(&self, peers: &Peers) -> Result<(), BackendError>;

    /// What went through each peer's tunnel.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn traffic(&self) -> Result<BTreeMap<PublicKey, Traffic>, BackendError>;
}

/// Tunnels cannot be ended.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The interface.
    #[error(transparent)]
    Interface(#[from] HostInterfaceError),
    /// The UDP port is taken.
    #[error("UDP port {0} is already in use: stop the program that uses it, or choose another with --tunnel-port")]
    Port(u16),
    /// The userspace tunnel.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The kernel's WireGuard.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What a backend is made of.
pub struct BackendOptions {
    /// Which one.
    pub wireguard: WireGuard,
    /// The gateway's key.
    pub key: PrivateKey,
    /// UDP port.
    pub port: u16,
    /// The interface that clients' packets come from.
    pub interface: HostInterface,
    /// Where peers were before a restart: they are called at once.
    pub endpoints: Endpoints,
}

/// Makes the interface and starts to answer handshakes, of no peer yet. The rules must be in force before.
///
/// # Errors
/// See [`BackendError`].
pub async fn open(options: BackendOptions) -> Result<Arc<dyn Backend>, BackendError> {
    match options.wireguard {
        WireGuard::Kernel => Ok(Arc::new(Kernel::open(options).await?)),
        WireGuard::Userspace => Ok(Arc::new(Userspace::open(options).await?)),
        WireGuard::Auto => match KernelDevice::probe().await {
            Ok(()) => Ok(Arc::new(Kernel::open(options).await?)),
            Err(reason) => {
                tracing::info!("tunnels end in userspace: {reason}");
                Ok(Arc::new(Userspace::open(options).await?))
            }
        },
    }
}
