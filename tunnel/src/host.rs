//! A TUN interface in the host's own network namespace. It outlives the process that made it, with its routes, so that
//! a successor goes on where it ended.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::libc;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::tun::{self, DEVICE, Tun};

/// How long to wait for an interface that a predecessor has not let go yet.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Longest wait for the kernel's answer to one change.
const LIMIT: Duration = Duration::from_secs(5);

/// A TUN interface of the host, and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInterface {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The networks behind it. It has no address of its own.
    pub routes: Vec<IpNet>,
}

/// An interface of the host could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HostInterfaceError {
    /// The kernel takes no such name.
    #[error("{0:?} is no name for a network interface: it must have 1 to 15 letters, digits, '-' or '_'")]
    Name(String),
    /// The device node is missing or closed to us.
    #[error("cannot open {DEVICE}: {0}; give the process this device, as with a hostPath volume of type CharDevice")]
    Device(io::Error),
    /// Another process has it.
    #[error("the interface {0} is in use by another process: stop that one, or choose another name")]
    InUse(String),
    /// The kernel refused.
    #[error("cannot {what} of the interface {name}: {reason}; it takes the capability NET_ADMIN")]
    Refused {
        /// What was tried.
        what: String,
        /// The interface.
        name: String,
        /// What the system said.
        reason: io::Error,
    },
}

impl HostInterface {
    /// Makes the interface, or takes over the one that is there; it stays when the process ends.
    ///
    /// # Errors
    /// See [`HostInterfaceError`].
    pub async fn open(&self) -> Result<Tun, HostInterfaceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match open(&self.name) {
                Err(HostInterfaceError::InUse(_)) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    /// Sets the MTU, brings the interface up and adds its routes, inside a tokio runtime with I/O. What is already as
    /// it should be stays so.
    ///
    /// # Errors
    /// See [`HostInterfaceError`].
    pub async fn configure(&self) -> Result<(), HostInterfaceError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| self.refused("configure", error))?;
        let _connection = AbortOnDrop(tokio::spawn(connection));
        let index = nix::net::if_::if_nametoindex(self.name.as_str())
            .map_err(|errno| self.refused("read the index", errno.into()))?;
        let mtu = LinkUnspec::new_with_index(index).mtu(self.mtu).build();
        self.within("set the MTU", handle.link().set(mtu).execute()).await?;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.within("change the state", handle.link().set(up).execute()).await?;
        for network in &self.routes {
            self.within(&format!("set the route to {network}"), route(&handle, index, *network)).await?;
        }
        Ok(())
    }

    /// Removes the interface with its routes, inside a tokio runtime with I/O; that there is none is as good.
    ///
    /// # Errors
    /// See [`HostInterfaceError`].
    pub async fn remove(&self) -> Result<(), HostInterfaceError> {
        let index = match nix::net::if_::if_nametoindex(self.name.as_str()) {
            Err(Errno::ENODEV) => return Ok(()),
            index => index.map_err(|errno| self.refused("read the index", errno.into()))?,
        };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| self.refused("remove", error))?;
        let _connection = AbortOnDrop(tokio::spawn(connection));
        self.within("end the existence", handle.link().del(index).execute()).await
    }

    async fn within(
        &self,
        what: &str,
        change: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), HostInterfaceError> {
        match tokio::time::timeout(LIMIT, change).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(self.refused(what, message.to_io())),
            Ok(Err(other)) => Err(self.refused(what, io::Error::other(other))),
            Err(_) => Err(self.refused(what, io::ErrorKind::TimedOut.into())),
        }
    }

    fn refused(&self, what: &str, reason: io::Error) -> HostInterfaceError {
        HostInterfaceError::Refused { what: what.into(), name: self.name.clone(), reason }
    }
}

/// Whether this process may make interfaces in its network namespace (`CAP_NET_ADMIN`).
#[must_use]
pub fn may_make_interfaces() -> bool {
    caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap_or(false)
}

/// Ends the netlink connection's task with the work it was made for.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn open(name: &str) -> Result<Tun, HostInterfaceError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || !name.bytes().all(is_plain) {
        return Err(HostInterfaceError::Name(name.into()));
    }
    let device = tun::open_device().map_err(HostInterfaceError::Device)?;
    let refused = |what: &str, errno: Errno| HostInterfaceError::Refused {
        what: what.into(),
        name: name.into(),
        reason: errno.into(),
    };
    let tun = Tun::attach(device, name).map_err(|errno| match errno {
        Errno::EBUSY => HostInterfaceError::InUse(name.into()),
        errno => refused("take hold", errno),
    })?;
    tun.keep().map_err(|errno| refused("keep the interface after the end", errno))?;
    Ok(tun)
}

async fn route(handle: &Handle, interface: u32, network: IpNet) -> Result<(), rtnetlink::Error> {
    let message = match network.network() {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, network.prefix_len())
            .output_interface(interface)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, network.prefix_len())
            .output_interface(interface)
            .build(),
    };
    handle.route().add(message).replace().execute().await
}
