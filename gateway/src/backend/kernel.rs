//! WireGuard in the kernel. Interface and sessions outlive the gateway: tunnels go on while it restarts, under the rules
//! that were in force.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sinfonia_tunnel::{KernelDevice, Peer};
use sinfonia_wire::PublicKey;

use super::{Backend, BackendError, BackendOptions, Endpoints, Peers, Traffic};

/// An interface of the kernel.
pub(super) struct Kernel {
    device: KernelDevice,
    state: Mutex<State>,
}

struct State {
    /// Peers that are as this gateway has set them.
    peers: Peers,
    /// Where to call peers that are added.
    endpoints: Endpoints,
}

impl Kernel {
    pub(super) async fn open(options: BackendOptions) -> Result<Self, BackendError> {
        let device = KernelDevice::open(&options.interface.name, &options.key, options.port).await?;
        options.interface.configure().await?;
        Ok(Self { device, state: Mutex::new(State { peers: Peers::new(), endpoints: options.endpoints }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Kernel {
    fn name(&self) -> &'static str {
        "the kernel"
    }

    fn outlives_gateway(&self) -> bool {
        true
    }

    fn retain(&self, peers: &Peers) -> Result<(), BackendError> {
        let mut state = self.lock();
        for key in self.device.stats()?.into_keys() {
            if state.peers.get(&key).is_some_and(|peer| peers.get(&key) == Some(peer)) {
                continue;
            }
            state.peers.remove(&key);
            if peers.contains_key(&key) {
                // Its session goes on, but without addresses, which may be another's by now, until it is added.
                let allowed_ips = Vec::new();
                let link = self.device.link();
                self.device.add_peer(&Peer { public_key: key, link, allowed_ips, endpoint: None, keepalive: None })?;
            } else {
                self.device.remove_peer(&key)?;
            }
        }
        Ok(())
    }

    fn apply(&self, peers: &Peers) -> Result<(), BackendError> {
        self.retain(peers)?;
        let known = self.device.stats()?;
        let mut state = self.lock();
        for (key, peer) in peers {
            let stats = known.get(key);
            if stats.is_some() && state.peers.contains_key(key) {
                continue;
            }
            let remembered = state.endpoints.remove(key);
            self.device.add_peer(&Peer {
                public_key: *key,
                link: self.device.link(),
                allowed_ips: peer.addresses.clone(),
                // The kernel knows better where a peer is that it has.
                endpoint: remembered.filter(|_| stats.is_none_or(|stats| stats.endpoint.is_none())),
                keepalive: peer.keepalive,
            })?;
            state.peers.insert(*key, peer.clone());
        }
        Ok(())
    }

    fn traffic(&self) -> Result<BTreeMap<PublicKey, Traffic>, BackendError> {
        let stats = self.device.stats()?;
        Ok(stats.into_iter().map(|(key, stats)| (key, stats.into())).collect())
    }
}
