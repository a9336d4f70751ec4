//! WireGuard without I/O: packets and datagrams in, packets and datagrams out.
//!
//! Handshakes, encryption and timers are `boringtun`'s; what it leaves out is here: telling peers apart on one
//! socket, allowed IPs in both directions, padding, roaming, and going on after a handshake was given up.

mod peer;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;
use sinfonia_wire::PublicKey;

use crate::PrivateKey;
use crate::packet::Frame;
use peer::PeerState;
pub use peer::{Peer, PeerStats};

/// How often [`Engine::tick`] wants to be called: boringtun's clock stands still in between.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// Handshake messages per second above which senders must prove their address by a cookie (WireGuard paper, 5.3).
/// Each message is counted twice, once to find the peer and once by the peer.
const HANDSHAKES_PER_SECOND: u64 = 2 * 500;

/// WireGuard's padding unit, bytes (WireGuard paper, 5.4.6).
const PADDING: usize = 16;

/// Bytes that a data message adds to its packet: header 16, authentication tag 16.
pub(crate) const OVERHEAD: usize = 32;

/// One TUN interface among those an engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(crate) u32);

/// The longest message of a handshake, bytes: boringtun asks for that much room whatever it writes.
const HANDSHAKE: usize = 148;

/// Where an engine's results go.
pub(crate) trait Output {
    /// Room to write a datagram of up to this many bytes to.
    fn room(&mut self, length: usize) -> &mut [u8];
    /// Sends the first `length` bytes of the room that was given last.
    fn commit(&mut self, to: SocketAddr, length: usize);
    /// Delivers a decrypted packet to an interface.
    fn packet(&mut self, link: LinkId, bytes: &[u8]);

    /// Sends a datagram.
    fn datagram(&mut self, to: SocketAddr, bytes: &[u8]) {
        if let Some(room) = self.room(bytes.len()).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.commit(to, bytes.len());
        }
    }
}

/// What a session of ours is called in the messages to us.
type SessionIndex = u32;

/// Per link, whose allowed IPs an address is among: the longest prefix wins.
type Routes = HashMap<LinkId, JointPrefixMap<IpNet, u32>>;

/// All peers behind one private key and one UDP socket, each bound to one link.
pub(crate) struct Engine {
    private_key: PrivateKey,
    public_key: x25519_dalek::PublicKey,
    rate_limiter: Arc<RateLimiter>,
    peers: HashMap<u32, PeerState>,
    by_key: HashMap<PublicKey, u32>,
    routes: Routes,
    next_index: u32,
    scratch: Vec<u8>,
}

impl Engine {
    pub(crate) fn new(private_key: PrivateKey) -> Self {
        let public_key = x25519_dalek::PublicKey::from(&private_key.secret());
        Self {
            rate_limiter: Arc::new(RateLimiter::new(&public_key, HANDSHAKES_PER_SECOND)),
            private_key,
            public_key,
            peers: HashMap::new(),
            by_key: HashMap::new(),
            routes: HashMap::new(),
            next_index: 1,
            scratch: vec![0; usize::from(u16::MAX) + OVERHEAD],
        }
    }

    /// Adds a peer, replacing one with the same key. Allowed IPs that another peer of the link had move to this one.
    pub(crate) fn add_peer(&mut self, peer: Peer, output: &mut impl Output) {
        self.remove_peer(&peer.public_key);
        let index = self.free_index();
        let routes = self.routes.entry(peer.link).or_default();
        for network in &peer.allowed_ips {
            routes.insert(network.trunc(), index);
        }
        self.by_key.insert(peer.public_key, index);
        let wants_contact = peer.endpoint.is_some() && peer.keepalive.is_some();
        let key = peer.public_key;
        let state = PeerState::new(&self.private_key, peer, index, self.rate_limiter.clone());
        self.peers.insert(index, state);
        if wants_contact {
            self.initiate(&key, output);
        }
    }

    pub(crate) fn remove_peer(&mut self, key: &PublicKey) -> bool {
        let Some(index) = self.by_key.remove(key) else {
            return false;
        };
        if let Some(peer) = self.peers.remove(&index)
            && let Some(routes) = self.routes.get_mut(&peer.link)
        {
            routes.retain(|_, owner| *owner != index);
        }
        true
    }

    pub(crate) fn remove_link(&mut self, link: LinkId) {
        self.routes.remove(&link);
        let keys: Vec<_> = self.peers.values().filter(|peer| peer.link == link).map(|peer| peer.public_key).collect();
        for key in keys {
            self.remove_peer(&key);
        }
    }

    pub(crate) fn stats(&self, key: &PublicKey) -> Option<PeerStats> {
        self.by_key.get(key).and_then(|index| self.peers.get(index)).map(PeerState::stats)
    }

    /// Starts a handshake now, also when one is under way. False when the peer or its endpoint is unknown.
    pub(crate) fn initiate(&mut self, key: &PublicKey, output: &mut impl Output) -> bool {
        let Some(peer) = self.by_key.get(key).and_then(|index| self.peers.get_mut(index)) else {
            return false;
        };
        let result = peer.tunnel.format_handshake_initiation(&mut self.scratch, true);
        peer.send(result, output)
    }

    /// Encrypts what came from `link`, padded up to its MTU. Packets for nobody's allowed IPs are dropped.
    pub(crate) fn outbound(&mut self, link: LinkId, frame: Frame<'_>, mtu: usize, output: &mut impl Output) {
        let Some(destination) = frame.destination() else {
            return;
        };
        let Some(peer) = owner(&self.routes, link, destination).and_then(|index| self.peers.get_mut(&index)) else {
            tracing::trace!(%destination, "no peer is allowed this destination");
            return;
        };
        match frame {
            Frame::Packet { buffer, length } => peer.encrypt(pad(buffer, length, mtu), output),
            Frame::Super(mut segments) => {
                while let Some(length) = segments.write_next(&mut self.scratch) {
                    peer.encrypt(pad(&mut self.scratch, length, mtu), output);
                }
            }
        }
    }

    /// Handles a datagram that came from the network just now. True when it completed a handshake.
    pub(crate) fn inbound(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        output: &mut impl Output,
    ) -> bool {
        let Some((index, session)) = self.addressee(datagram, from, output) else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(&index) else {
            return false;
        };
        let mut result = peer.tunnel.decapsulate(Some(from.ip()), datagram, &mut self.scratch);
        match result {
            TunnResult::Err(error) => {
                tracing::debug!(peer = %peer.public_key, ?error, "datagram refused");
                return false;
            }
            // Too many handshakes by now: the sender, who is not yet known to be the peer, must prove its address.
            TunnResult::WriteToNetwork(ref reply) if is_cookie_reply(reply) => {
                output.datagram(from, reply);
                return false;
            }
            _ => {}
        }
        // Whoever asks for a cookie is not thereby where the peer is; the kernel's WireGuard has it so, too.
        if !is_cookie_reply(datagram) {
            peer.received(from, datagram.len(), now);
        }
        loop {
            match result {
                TunnResult::WriteToNetwork(_) => {
                    peer.send(result, output);
                    // What waited for the session goes out now, one packet per call.
                    result = peer.tunnel.decapsulate(None, &[], &mut self.scratch);
                }
                TunnResult::WriteToTunnelV4(packet, source) => {
                    deliver(&self.routes, peer.link, index, source.into(), packet, output);
                    break;
                }
                TunnResult::WriteToTunnelV6(packet, source) => {
                    deliver(&self.routes, peer.link, index, source.into(), packet, output);
                    break;
                }
                TunnResult::Done | TunnResult::Err(_) => break,
            }
        }
        peer.note_session(session)
    }

    /// Runs the timers: retransmissions, rekeys, keepalives.
    pub(crate) fn tick(&mut self, output: &mut impl Output) {
        self.rate_limiter.reset_count();
        for peer in self.peers.values_mut() {
            let result = peer.tunnel.update_timers(&mut self.scratch);
            if let TunnResult::Err(_) = result {
                // boringtun gives up for good after 90 s without an answer; a tunnel with a keepalive must
                // come back when the other side does.
                if peer.keepalive && peer.endpoint.is_some() && peer.tunnel.is_expired() {
                    let result = peer.tunnel.format_handshake_initiation(&mut self.scratch, false);
                    peer.send(result, output);
                }
                continue;
            }
            peer.send(result, output);
        }
    }

    /// Which peer a datagram is for, and in which session if it has data; answers it here when the sender must prove
    /// its address first.
    fn addressee(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        output: &mut impl Output,
    ) -> Option<(u32, Option<SessionIndex>)> {
        let mut cookie = [0; 64];
        match self.rate_limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(Packet::HandshakeInit(init)) => {
                let half = parse_handshake_anon(&self.private_key.secret(), &self.public_key, &init).ok()?;
                let index = self.by_key.get(&PublicKey::from(half.peer_static_public))?;
                Some((*index, None))
            }
            Ok(Packet::HandshakeResponse(response)) => Some((response.receiver_idx >> 8, None)),
            Ok(Packet::PacketCookieReply(reply)) => Some((reply.receiver_idx >> 8, None)),
            Ok(Packet::PacketData(data)) => Some((data.receiver_idx >> 8, Some(data.receiver_idx))),
            Err(TunnResult::WriteToNetwork(reply)) => {
                output.datagram(from, reply);
                None
            }
            Err(_) => None,
        }
    }

    /// boringtun keeps 24 bits for the peer in a receiver index.
    fn free_index(&mut self) -> u32 {
        loop {
            let index = self.next_index;
            self.next_index = (self.next_index + 1) & 0x00ff_ffff;
            if !self.peers.contains_key(&index) {
                return index;
            }
        }
    }
}

/// Message type 3 (WireGuard paper, 5.4.7).
fn is_cookie_reply(datagram: &[u8]) -> bool {
    datagram.first() == Some(&3)
}

/// The packet in `buffer[..length]` with its padding, for which what follows it is overwritten.
fn pad(buffer: &mut [u8], length: usize, mtu: usize) -> &[u8] {
    let padded = length.next_multiple_of(PADDING).min(mtu.max(length)).min(buffer.len());
    buffer[length..padded].fill(0);
    &buffer[..padded]
}

fn owner(routes: &Routes, link: LinkId, address: IpAddr) -> Option<u32> {
    routes.get(&link)?.get_lpm(&IpNet::from(address)).map(|(_, index)| *index)
}

/// A packet counts only if its source is among the allowed IPs of the peer that encrypted it.
fn deliver(routes: &Routes, link: LinkId, peer: u32, source: IpAddr, packet: &[u8], output: &mut impl Output) {
    if owner(routes, link, source) == Some(peer) {
        output.packet(link, packet);
    } else {
        tracing::debug!(%source, "packet from a source that its peer is not allowed");
    }
}

/// The instant that lies this long back.
fn ago(duration: Duration) -> Option<Instant> {
    Instant::now().checked_sub(duration)
}

#[cfg(test)]
mod tests;
