//! WireGuard in the kernel: an interface made by rtnetlink(7), its key and peers set by generic netlink (family
//! `wireguard`, Linux `Documentation/netlink/specs/wireguard.yaml`).

mod generic;
mod link;
mod message;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;

use nix::errno::Errno;
use sinfonia_wire::PublicKey;

use crate::engine::{LinkId, Peer, PeerStats};
use crate::{PrivateKey, kernel::generic::Family};

/// WireGuard in the kernel cannot be used, or refused something.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel has no WireGuard.
    #[error(
        "this kernel has no WireGuard: load its module, as with `modprobe wireguard`, or use WireGuard in userspace"
    )]
    Missing,
    /// The caller may not.
    #[error("WireGuard in the kernel takes the capability NET_ADMIN in the network namespace")]
    Forbidden,
    /// No interface can be called so.
    #[error("{0:?} is no name for a network interface: it must have 1 to 15 bytes")]
    Name(String),
    /// Something else is called so.
    #[error("{0} exists and is not a WireGuard interface: remove it with `ip link delete {0}`, or choose another name")]
    Taken(String),
    /// The UDP port is taken.
    #[error("UDP port {0} is already in use: stop the program that uses it, or choose another port")]
    Port(u16),
    /// Anything else.
    #[error("cannot {what} the WireGuard interface {name}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The interface.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A WireGuard interface of the kernel, in the network namespace of the thread that calls. It stays, with its peers,
/// when this is dropped and when the process ends; [`KernelDevice::remove`] removes it.
///
/// Its calls, but those that make and remove it, wait for the kernel only, which takes less than a few milliseconds.
#[derive(Debug)]
pub struct KernelDevice {
    name: CString,
    family: Family,
}

impl KernelDevice {
    /// Whether it can be used, found out by doing: makes an interface and removes it, inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`KernelError::Missing`] or [`KernelError::Forbidden`], as a rule.
    pub async fn probe() -> Result<(), KernelError> {
        let name = format!("wgprobe{:x}", std::process::id());
        link::add(&name).await.map_err(|source| refused("make", &name, source))?;
        link::remove(&name).await.map_err(|source| refused("remove", &name, source))?;
        family(&name).map(drop)
    }

    /// Makes the interface, or takes over the one that is there with its peers, and sets its key and UDP port; inside
    /// a tokio runtime with I/O. It is not up yet and has neither address nor routes.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub async fn open(name: &str, key: &PrivateKey, port: u16) -> Result<Self, KernelError> {
        let c_name = CString::new(name).ok().filter(|c_name| (1..nix::libc::IFNAMSIZ).contains(&c_name.count_bytes()));
        let c_name = c_name.ok_or_else(|| KernelError::Name(name.into()))?;
        match link::add(name).await {
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            result => result.map_err(|source| refused("make", name, source))?,
        }
        let device = Self { family: family(name)?, name: c_name };
        let set = device.family.change(&message::set_device(&device.name, key, port));
        set.map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EOPNOTSUPP) => KernelError::Taken(name.into()),
            Some(Errno::EADDRINUSE) => KernelError::Port(port),
            _ => refused("set the key and port of", name, source),
        })?;
        Ok(device)
    }

    /// The one link that there is, for its peers.
    #[must_use]
    pub fn link(&self) -> LinkId {
        LinkId(0)
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// Adds a peer, or changes the one with the same key: its session goes on. Allowed IPs that another peer had move
    /// to this one. With an endpoint and a keepalive it is called as soon as the interface is up.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub fn add_peer(&self, peer: &Peer) -> Result<(), KernelError> {
        let result = self.family.change(&message::add_peer(&self.name, peer));
        result.map_err(|source| refused("add a peer to", self.name(), source))
    }

    /// Forgets a peer, if it is known.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub fn remove_peer(&self, key: &PublicKey) -> Result<(), KernelError> {
        let result = self.family.change(&message::remove_peer(&self.name, key));
        result.map_err(|source| refused("remove a peer from", self.name(), source))
    }

    /// What is known of each peer's traffic. The kernel does not tell when it last received something.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub fn stats(&self) -> Result<BTreeMap<PublicKey, PeerStats>, KernelError> {
        let mut stats = BTreeMap::new();
        let result = self.family.dump(&message::get_device(&self.name), &mut |reply| {
            message::collect_stats(reply, &mut stats);
        });
        result.map_err(|source| refused("read the peers of", self.name(), source))?;
        Ok(stats)
    }

    /// Removes the interface, inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`KernelError::Refused`].
    pub async fn remove(self) -> Result<(), KernelError> {
        link::remove(self.name()).await.map_err(|source| refused("remove", self.name(), source))
    }
}

fn family(name: &str) -> Result<Family, KernelError> {
    Family::find(message::FAMILY).map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => KernelError::Missing,
        _ => refused("configure", name, source),
    })
}

fn refused(what: &'static str, name: &str, source: io::Error) -> KernelError {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => KernelError::Forbidden,
        Some(Errno::EOPNOTSUPP) => KernelError::Missing,
        _ => KernelError::Refused { what, name: name.into(), source },
    }
}

#[cfg(test)]
mod tests;
