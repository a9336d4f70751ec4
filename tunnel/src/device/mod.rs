//! A running tunnel: one UDP socket, any number of TUN interfaces, one thread that moves packets between them.

mod outbox;
mod shared;
mod sink;
mod udp;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sinfonia_wire::PublicKey;

use crate::engine::{LinkId, Peer, PeerStats};
use crate::{PrivateKey, Tun};
use shared::Shared;

/// Which UDP socket a [`Device`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Any free port, in the family of this endpoint, which the device's peer is at.
    Client(SocketAddr),
    /// A fixed address and port; port 0 picks a free one. `[::]` takes IPv4 too.
    Server(SocketAddr),
}

/// A tunnel could not start, or a handshake did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The UDP socket could not be opened.
    #[error("cannot open UDP socket on {address}: {source}")]
    Socket {
        /// The address that was asked for, or that it should lead to.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The packet thread could not start, or an interface could not be added.
    #[error("cannot start the tunnel's packet loop: {0}")]
    Loop(#[from] io::Error),
    /// The peer did not answer a handshake in time.
    #[error("no answer from {endpoint} to a WireGuard handshake within {} ms", waited.as_millis())]
    HandshakeTimeout {
        /// Where the handshake was sent, `an unknown address` if nothing was.
        endpoint: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// A running tunnel. Dropping it stops its thread and closes its socket and interfaces.
#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// Opens the UDP socket in the network namespace of the calling thread and starts the packet thread.
    ///
    /// # Errors
    /// [`DeviceError::Socket`] when the port is taken or the address is not ours; [`DeviceError::Loop`] when the
    /// system has no thread or descriptor left.
    pub fn start(private_key: PrivateKey, binding: Binding) -> Result<Self, DeviceError> {
        let shared = Arc::new(Shared::open(private_key, binding)?);
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("wireguard".into())
            .stack_size(256 * 1024)
            .spawn(move || worker::run(&worker))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The UDP port in use.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.shared.local_port()
    }

    /// Keeps to the network interface that leads to `endpoint` now, whatever routes come later: where a tunnel's interface
    /// is in the same network namespace as this device's socket, its own packets would go into it.
    ///
    /// # Errors
    /// [`DeviceError::Socket`] when nothing leads there.
    pub fn stay_on_route(&self, endpoint: SocketAddr) -> Result<(), DeviceError> {
        let failed = |source| DeviceError::Socket { address: endpoint, source };
        self.shared.udp.stay_on_route(endpoint).map_err(failed)
    }

    /// Adds an interface, with the MTU it was given in bytes.
    ///
    /// # Errors
    /// [`DeviceError::Loop`] when the system has no room for one more descriptor to watch.
    pub fn add_link(&self, tun: Tun, mtu: u32) -> Result<LinkId, DeviceError> {
        Ok(self.shared.add_link(tun, mtu)?)
    }

    /// Closes an interface and forgets its peers.
    pub fn remove_link(&self, link: LinkId) {
        self.shared.remove_link(link);
    }

    /// Adds a peer, replacing one with the same key. With an endpoint and a keepalive it is called at once.
    pub fn add_peer(&self, peer: Peer) {
        self.shared.with_engine(|engine, output| engine.add_peer(peer, output));
    }

    /// Forgets a peer. False when it was not known.
    pub fn remove_peer(&self, key: &PublicKey) -> bool {
        self.shared.with_engine(|engine, _| engine.remove_peer(key))
    }

    /// What is known of a peer's traffic; none if there is no such peer.
    #[must_use]
    pub fn stats(&self, key: &PublicKey) -> Option<PeerStats> {
        self.shared.with_engine(|engine, _| engine.stats(key))
    }

    /// Shakes hands with a peer, repeating the first message at growing intervals; how long it took.
    ///
    /// WireGuard itself repeats only after 5 s, which a person who waits would notice. The answer to the last two
    /// messages is accepted, so doubling intervals reach peers at any distance.
    ///
    /// # Errors
    /// [`DeviceError::HandshakeTimeout`].
    pub async fn handshake(&self, key: &PublicKey, limit: Duration) -> Result<Duration, DeviceError> {
        let start = Instant::now();
        let deadline = start + limit;
        let mut interval = Duration::from_millis(250);
        loop {
            let shaken = self.shared.handshakes.notified();
            tokio::pin!(shaken);
            shaken.as_mut().enable();
            if self.stats(key).is_some_and(|peer| peer.last_handshake.is_some()) {
                return Ok(start.elapsed());
            }
            if Instant::now() >= deadline {
                return Err(self.handshake_timeout(key, start.elapsed()));
            }
            self.shared.with_engine(|engine, output| engine.initiate(key, output));
            let retry = (Instant::now() + interval).min(deadline);
            while tokio::time::timeout_at(retry.into(), shaken.as_mut()).await.is_ok() {
                if self.stats(key).is_some_and(|peer| peer.last_handshake.is_some()) {
                    return Ok(start.elapsed());
                }
                shaken.set(self.shared.handshakes.notified());
            }
            interval *= 2;
        }
    }

    fn handshake_timeout(&self, key: &PublicKey, waited: Duration) -> DeviceError {
        let endpoint = self.stats(key).and_then(|peer| peer.endpoint);
        let endpoint = endpoint.map_or_else(|| "an unknown address".into(), |address| address.to_string());
        DeviceError::HandshakeTimeout { endpoint, waited }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the tunnel's packet thread panicked");
        }
    }
}

#[cfg(test)]
mod tests;
