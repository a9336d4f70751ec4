//! What the packet thread and the handle share: the engine under one lock, the descriptors beside it.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::outbox::Outbox;
use super::sink::{Inbox, Sink};
use super::udp::Udp;
use super::{Binding, DeviceError};
use crate::engine::{Engine, LinkId};
use crate::{PrivateKey, Tun};

/// Epoll's names for what is not a link.
pub(super) const UDP: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

pub(super) struct Link {
    pub(super) tun: Tun,
    pub(super) mtu: usize,
}

pub(super) struct State {
    engine: Engine,
    links: HashMap<LinkId, Link>,
    next_link: u32,
    outbox: Outbox,
    inbox: Inbox,
}

impl State {
    fn new(private_key: PrivateKey) -> Self {
        Self {
            engine: Engine::new(private_key),
            links: HashMap::new(),
            next_link: 0,
            outbox: Outbox::new(),
            inbox: Inbox::new(),
        }
    }

    /// The engine, the links, and where the engine's results go.
    pub(super) fn parts<'a>(&'a mut self, udp: &'a Udp) -> (&'a mut Engine, &'a HashMap<LinkId, Link>, Sink<'a>) {
        let Self { engine, links, outbox, inbox, .. } = self;
        (engine, links, Sink { udp, outbox, inbox, links })
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) udp: Udp,
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
        let udp = Udp::bind(address).map_err(failed)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io::Error::from)?;
        let shared = Self {
            state: Mutex::new(State::new(private_key)),
            udp,
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
        self.udp.local_port()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each packet is handled on its own: after a panic the state is no worse than after a lost packet.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the engine act, and sends what comes of it.
    pub(super) fn with_engine<T>(&self, act: impl FnOnce(&mut Engine, &mut Sink<'_>) -> T) -> T {
        let mut state = self.lock();
        let (engine, _, mut output) = state.parts(&self.udp);
        let result = act(engine, &mut output);
        output.flush();
        result
    }

    /// Sends and delivers what waits.
    pub(super) fn flush(&self) {
        self.with_engine(|_, _| ());
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
        formatter.debug_struct("Shared").field("port", &self.udp.local_port()).finish_non_exhaustive()
    }
}
