//! One peer: its noise state, where it was last seen, what it sent and received.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use ipnet::IpNet;
use sinfonia_wire::PublicKey;

use super::{HANDSHAKE, LinkId, OVERHEAD, Output, SessionIndex, ago};
use crate::PrivateKey;

/// A peer to talk to.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer's public key.
    pub public_key: PublicKey,
    /// The interface that its packets come from and go to.
    pub link: LinkId,
    /// Source addresses it may use, and destinations that are sent to it.
    pub allowed_ips: Vec<IpNet>,
    /// Where to reach it; learnt from its first authentic datagram if absent.
    pub endpoint: Option<SocketAddr>,
    /// How often to send an empty packet when nothing else was sent; whole seconds.
    pub keepalive: Option<Duration>,
}

/// What is known of a peer's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    /// When the newest session began.
    pub last_handshake: Option<Instant>,
    /// When the last authentic datagram came, keepalives and handshakes included; the kernel does not tell.
    pub last_received: Option<Instant>,
    /// Bytes of authentic datagrams received, as WireGuard counts them.
    pub received_bytes: u64,
    /// Bytes of datagrams sent.
    pub sent_bytes: u64,
    /// Where the last authentic datagram came from, or the configured endpoint.
    pub endpoint: Option<SocketAddr>,
}

pub(super) struct PeerState {
    pub(super) public_key: PublicKey,
    pub(super) link: LinkId,
    pub(super) tunnel: Tunn,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) keepalive: bool,
    last_handshake: Option<Instant>,
    /// That of the last datagram, none if it had no data.
    last_session: Option<SessionIndex>,
    last_received: Option<Instant>,
    received_bytes: u64,
    sent_bytes: u64,
}

impl PeerState {
    pub(super) fn new(key: &PrivateKey, peer: Peer, index: u32, rate_limiter: Arc<RateLimiter>) -> Self {
        let seconds = peer.keepalive.map(|every| u16::try_from(every.as_secs()).unwrap_or(u16::MAX).max(1));
        let public = x25519_dalek::PublicKey::from(*peer.public_key.as_bytes());
        Self {
            public_key: peer.public_key,
            link: peer.link,
            tunnel: Tunn::new(key.secret(), public, None, seconds, index, Some(rate_limiter)),
            endpoint: peer.endpoint,
            keepalive: peer.keepalive.is_some(),
            last_handshake: None,
            last_session: None,
            last_received: None,
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// Encrypts a padded packet, or keeps it and asks for a session.
    pub(super) fn encrypt(&mut self, packet: &[u8], output: &mut impl Output) {
        let needed = (packet.len() + OVERHEAD).max(HANDSHAKE);
        let room = output.room(needed);
        if room.len() < needed {
            return;
        }
        let TunnResult::WriteToNetwork(datagram) = self.tunnel.encapsulate(packet, room) else {
            return;
        };
        let length = datagram.len();
        if let Some(endpoint) = self.endpoint {
            self.sent_bytes += length as u64;
            output.commit(endpoint, length);
        }
    }

    /// Sends what boringtun wants sent. False when there was nothing, or nowhere to send it.
    pub(super) fn send(&mut self, result: TunnResult<'_>, output: &mut impl Output) -> bool {
        let (TunnResult::WriteToNetwork(datagram), Some(endpoint)) = (result, self.endpoint) else {
            return false;
        };
        self.sent_bytes += datagram.len() as u64;
        output.datagram(endpoint, datagram);
        true
    }

    /// Notes an authentic datagram: a peer is wherever its last one came from.
    pub(super) fn received(&mut self, from: SocketAddr, length: usize, now: Instant) {
        self.endpoint = Some(from);
        self.received_bytes += length as u64;
        self.last_received = Some(now);
    }

    /// Notes what an authentic datagram was: data in this session, or else of a handshake. True if there is a newer
    /// session now. One begins with a response to us, or with the first data after our response.
    pub(super) fn note_session(&mut self, session: Option<SessionIndex>) -> bool {
        if session.is_some() && session == self.last_session {
            return false;
        }
        self.last_session = session;
        let Some(since) = self.tunnel.time_since_last_handshake().and_then(ago) else {
            return false;
        };
        // The same session gives the same instant but for the clock's grain.
        let newer = self.last_handshake.is_none_or(|known| since > known + Duration::from_secs(1));
        if newer {
            self.last_handshake = Some(since);
        }
        newer
    }

    pub(super) fn stats(&self) -> PeerStats {
        PeerStats {
            last_handshake: self.last_handshake,
            last_received: self.last_received,
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
            endpoint: self.endpoint,
        }
    }
}
