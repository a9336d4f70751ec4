//! What is said to the kernel about a WireGuard interface, and what it answers.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use netlink_bindings::wireguard::{IterableWgpeer, KernelTimespec, OpGetDeviceDump, OpSetDeviceDo, WgpeerFlags};
use nix::libc;
use sinfonia_wire::PublicKey;
use zeroize::Zeroizing;

use crate::PrivateKey;
use crate::engine::{Peer, PeerStats};

/// WireGuard's name among the families.
pub(super) const FAMILY: &str = "wireguard";

/// More than a message about the interface itself takes, bytes, so that it need not move and leave its key behind.
const ROOM: usize = 512;

/// Sets an interface's private key and UDP port.
pub(super) fn set_device(name: &CStr, key: &PrivateKey, port: u16) -> Zeroizing<Vec<u8>> {
    let mut message = Zeroizing::new(Vec::with_capacity(ROOM));
    let secret = key.secret();
    OpSetDeviceDo::encode_request(&mut message)
        .push_ifname(name)
        .push_private_key(secret.as_bytes())
        .push_listen_port(port);
    message
}

/// Adds a peer or changes it.
pub(super) fn add_peer(name: &CStr, peer: &Peer) -> Vec<u8> {
    let keepalive = peer.keepalive.map_or(0, |every| u16::try_from(every.as_secs()).unwrap_or(u16::MAX).max(1));
    let mut message = Vec::new();
    let mut entry = OpSetDeviceDo::encode_request(&mut message)
        .push_ifname(name)
        .array_peers()
        .entry_nested()
        .push_public_key(peer.public_key.as_bytes())
        .push_flags(WgpeerFlags::ReplaceAllowedips as u32)
        .push_persistent_keepalive_interval(keepalive);
    if let Some(endpoint) = peer.endpoint {
        entry = entry.push_endpoint(endpoint);
    }
    let mut allowed = entry.array_allowedips();
    for network in &peer.allowed_ips {
        let family = match network.addr() {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        allowed = allowed
            .entry_nested()
            .push_family(u16::try_from(family).unwrap_or_default())
            .push_ipaddr(network.network())
            .push_cidr_mask(network.prefix_len())
            .end_nested();
    }
    drop(allowed);
    message
}

/// Removes a peer.
pub(super) fn remove_peer(name: &CStr, key: &PublicKey) -> Vec<u8> {
    let mut message = Vec::new();
    OpSetDeviceDo::encode_request(&mut message)
        .push_ifname(name)
        .array_peers()
        .entry_nested()
        .push_public_key(key.as_bytes())
        .push_flags(WgpeerFlags::RemoveMe as u32);
    message
}

/// Asks for an interface and its peers.
pub(super) fn get_device(name: &CStr) -> Vec<u8> {
    let mut message = Vec::new();
    OpGetDeviceDump::encode_request(&mut message).push_ifname(name);
    message
}

/// Reads the peers in one message of the answer. A peer whose allowed IPs do not fit is in the next message again, with
/// the rest of them only.
pub(super) fn collect_stats(reply: &[u8], stats: &mut BTreeMap<PublicKey, PeerStats>) {
    let Ok(peers) = OpGetDeviceDump::decode_request(reply).get_peers() else {
        return;
    };
    for peer in peers {
        let key = peer.get_public_key().ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
        if let Some(key) = key {
            stats.entry(PublicKey::from(key)).or_insert_with(|| peer_stats(&peer));
        }
    }
}

fn peer_stats(peer: &IterableWgpeer<'_>) -> PeerStats {
    PeerStats {
        last_handshake: peer.get_last_handshake_time().ok().and_then(|time| instant(&time)),
        last_received: None,
        received_bytes: peer.get_rx_bytes().unwrap_or_default(),
        sent_bytes: peer.get_tx_bytes().unwrap_or_default(),
        endpoint: peer.get_endpoint().ok(),
    }
}

/// A time of the wall clock as one of the clock that is never set. All zero means never.
fn instant(time: &KernelTimespec) -> Option<Instant> {
    let since = Duration::new(time.sec, u32::try_from(time.nsec).ok().filter(|nsec| *nsec < 1_000_000_000)?);
    if since.is_zero() {
        return None;
    }
    // A wall clock that was set back makes it just now.
    let age = SystemTime::UNIX_EPOCH.checked_add(since)?.elapsed().unwrap_or_default();
    Instant::now().checked_sub(age)
}
