//! The packet thread: one loop that polls TUN interfaces and the UDP socket.

use std::io;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};

use super::shared::{Shared, State, UDP, unmapped};
use crate::engine::{LinkId, OVERHEAD, TICK};

/// Reads of one descriptor per turn: enough to amortise the wake-up, few enough that none starves another.
const READS_PER_TURN: usize = 8;

/// The largest IP packet or UDP datagram, bytes.
const LARGEST: usize = u16::MAX as usize;

pub(super) fn run(shared: &Shared) {
    let mut events = [EpollEvent::empty(); 64];
    let mut buffer = vec![0; LARGEST + OVERHEAD];
    let mut next_tick = Instant::now();
    while !shared.stopping() {
        let now = Instant::now();
        if now >= next_tick {
            shared.with_engine(|engine, output| engine.tick(output));
            next_tick = now + TICK;
        }
        let wait = next_tick.saturating_duration_since(now);
        let timeout = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO);
        let ready = match shared.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!(%error, "the packet thread cannot wait for packets and stops");
                return;
            }
        };
        for event in &events[..ready] {
            match event.data() {
                UDP => from_network(shared, &mut buffer),
                token => {
                    if let Ok(id) = u32::try_from(token) {
                        from_link(shared, LinkId(id), &mut buffer);
                    }
                }
            }
        }
    }
}

fn from_network(shared: &Shared, buffer: &mut [u8]) {
    let mut state = shared.lock();
    let State { engine, links, .. } = &mut *state;
    let mut output = shared.sink(links);
    let mut shaken = false;
    for _ in 0..READS_PER_TURN {
        match shared.udp.recv_from(buffer) {
            Ok((length, from)) => shaken |= engine.inbound(&buffer[..length], unmapped(from), &mut output),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                tracing::debug!(%error, "UDP socket");
                break;
            }
        }
    }
    if shaken {
        shared.handshakes.notify_waiters();
    }
}

fn from_link(shared: &Shared, id: LinkId, buffer: &mut [u8]) {
    let mut state = shared.lock();
    let State { engine, links, .. } = &mut *state;
    let Some(link) = links.get(&id) else {
        return;
    };
    let mut output = shared.sink(links);
    for _ in 0..READS_PER_TURN {
        match link.tun.read(&mut buffer[..LARGEST]) {
            Ok(length) => engine.outbound(id, buffer, length, link.mtu, &mut output),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                // Its network namespace is gone; the owner of the link will notice by itself.
                tracing::debug!(%error, "interface closed");
                let _ = shared.epoll.delete(&link.tun);
                break;
            }
        }
    }
}
