//! What the packet thread and the handle share: the engine under one lock, the descriptors beside it.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Binding, DeviceError};
use crate::engine::{Engine, LinkId, Output};
use crate::{PrivateKey, Tun};

/// Asked for as socket buffer sizes, bytes; the kernel grants what it allows. The default costs 5 % of throughput.
const SOCKET_BUFFER: usize = 4 << 20;

/// Epoll's names for what is not a link.
pub(super) const UDP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

pub(super) struct Link {
    pub(super) tun: Tun,
    pub(super) mtu: usize,
}

pub(super) struct State {
    pub(super) engine: Engine,
    pub(super) links: HashMap<LinkId, Link>,
    next_link: u32,
}

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) udp: UdpSocket,
    local: SocketAddr,
    pub(super) epoll: Epoll,
    wake: EventFd,
    stopping: AtomicBool,
    pub(super) handshakes: tokio::sync::Notify,
}

impl Shared {
    pub(super) fn open(private_key: PrivateKey, binding: Binding) -> Result<Self, DeviceError> {
        let address = match binding {
            Binding::Client(SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Binding::Client(SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            Binding::Server(address) => address,
        };
        let failed = |source| DeviceError::Socket { address, source };
        let udp = open_udp(address).map_err(failed)?;
        let local = udp.local_addr().map_err(failed)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io::Error::from)?;
        let shared = Self {
            state: Mutex::new(State { engine: Engine::new(private_key), links: HashMap::new(), next_link: 0 }),
            udp,
            local,
            epoll,
            wake,
            stopping: AtomicBool::new(false),
            handshakes: tokio::sync::Notify::new(),
        };
        shared.watch(&shared.udp, UDP)?;
        shared.watch(&shared.wake, WAKE)?;
        Ok(shared)
    }

    pub(super) fn local_port(&self) -> u16 {
        self.local.port()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each packet is handled on its own: after a panic the state is no worse than after a lost packet.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_engine<T>(&self, act: impl FnOnce(&mut Engine, &mut Sink<'_>) -> T) -> T {
        let mut state = self.lock();
        let State { engine, links, .. } = &mut *state;
        act(engine, &mut self.sink(links))
    }

    pub(super) fn sink<'a>(&'a self, links: &'a HashMap<LinkId, Link>) -> Sink<'a> {
        Sink { udp: &self.udp, mapped: self.local.is_ipv6(), links }
    }

    pub(super) fn add_link(&self, tun: Tun, mtu: u32) -> io::Result<LinkId> {
        let mut state = self.lock();
        let link = LinkId(state.next_link);
        self.watch(&tun, u64::from(link.0))?;
        state.next_link += 1;
        state.links.insert(link, Link { tun, mtu: mtu as usize });
        Ok(link)
    }

    pub(super) fn remove_link(&self, link: LinkId) {
        let mut state = self.lock();
        state.engine.remove_link(link);
        if let Some(link) = state.links.remove(&link) {
            // Already gone when the worker saw its namespace end.
            let _ = self.epoll.delete(&link.tun);
        }
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = self.wake.write(1) {
            tracing::warn!(%error, "cannot wake the packet thread; it stops at its next timer");
        }
    }

    fn watch(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("local", &self.local).finish_non_exhaustive()
    }
}

/// Sends results straight to the descriptors. What the kernel does not take at once is lost, as on any network.
pub(super) struct Sink<'a> {
    udp: &'a UdpSocket,
    mapped: bool,
    links: &'a HashMap<LinkId, Link>,
}

impl Output for Sink<'_> {
    fn datagram(&mut self, to: SocketAddr, bytes: &[u8]) {
        let to = match to {
            SocketAddr::V4(v4) if self.mapped => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            other => other,
        };
        if let Err(error) = self.udp.send_to(bytes, to) {
            tracing::debug!(%to, %error, "datagram not sent");
        }
    }

    fn packet(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get(&link) else {
            return;
        };
        if let Err(error) = link.tun.write(bytes) {
            tracing::debug!(%error, "packet not delivered");
        }
    }
}

/// Endpoints are compared and shown as IPv4 where they are, also on a socket for both families.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    for result in [socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER)] {
        if let Err(error) = result {
            tracing::debug!(%error, "socket buffer stays at its default");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
