//! WireGuard in this process, behind a TUN interface of the node.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sinfonia_tunnel::{Binding, Device, DeviceError, LinkId, Peer, PrivateKey};
use sinfonia_wire::PublicKey;

use super::{Backend, BackendError, BackendOptions, Endpoints, Peers, Traffic};

/// How long to wait for a UDP port that a predecessor has not let go yet.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// A device with one link for all peers.
pub(super) struct Userspace {
    device: Device,
    link: LinkId,
    state: Mutex<State>,
}

struct State {
    peers: Peers,
    /// Where to call peers that are added.
    endpoints: Endpoints,
}

impl Userspace {
    pub(super) async fn open(options: BackendOptions) -> Result<Self, BackendError> {
        let tun = options.interface.open().await?;
        options.interface.configure().await?;
        let device = listen(&options.key, options.port).await?;
        let link = device.add_link(tun, options.interface.mtu)?;
        let state = Mutex::new(State { peers: Peers::new(), endpoints: options.endpoints });
        Ok(Self { device, link, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Userspace {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn outlives_gateway(&self) -> bool {
        false
    }

    fn retain(&self, peers: &Peers) -> Result<(), BackendError> {
        let mut state = self.lock();
        let State { peers: present, endpoints } = &mut *state;
        present.retain(|key, peer| {
            let next = peers.get(key);
            if next != Some(peer) {
                // One that is only changed is called where it was.
                let endpoint = self.device.stats(key).and_then(|stats| stats.endpoint);
                if let Some(endpoint) = endpoint.filter(|_| next.is_some()) {
                    endpoints.insert(*key, endpoint);
                }
                self.device.remove_peer(key);
            }
            next == Some(peer)
        });
        Ok(())
    }

    fn apply(&self, peers: &Peers) -> Result<(), BackendError> {
        self.retain(peers)?;
        let mut state = self.lock();
        for (key, peer) in peers {
            if state.peers.contains_key(key) {
                continue;
            }
            self.device.add_peer(Peer {
                public_key: *key,
                link: self.link,
                allowed_ips: peer.addresses.clone(),
                endpoint: state.endpoints.remove(key),
                keepalive: peer.keepalive,
            });
            state.peers.insert(*key, peer.clone());
        }
        Ok(())
    }

    fn traffic(&self) -> Result<BTreeMap<PublicKey, Traffic>, BackendError> {
        let keys: Vec<_> = self.lock().peers.keys().copied().collect();
        let stats = keys.into_iter().filter_map(|key| Some((key, self.device.stats(&key)?)));
        Ok(stats.map(|(key, stats)| (key, stats.into())).collect())
    }
}

/// On all addresses, IPv4 only where there is no IPv6.
async fn listen(key: &PrivateKey, port: u16) -> Result<Device, BackendError> {
    let open = |host: IpAddr| Device::start(key.clone(), Binding::Server((host, port).into()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open(Ipv6Addr::UNSPECIFIED.into()) {
            Err(DeviceError::Socket { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
                if Instant::now() >= deadline {
                    return Err(BackendError::Port(port));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(DeviceError::Socket { .. }) => return Ok(open(Ipv4Addr::UNSPECIFIED.into())?),
            result => return Ok(result?),
        }
    }
}
