//! The packet thread: one loop that polls TUN interfaces and the UDP socket.

use std::io;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};

use super::shared::{Link, Shared, UDP};
use super::udp::control_space;
use crate::engine::{LinkId, OVERHEAD, TICK};
use crate::packet::{Frame, HEADER, LARGEST};

/// Reads of one descriptor per turn: enough to amortise the wake-up, few enough that none starves another.
const READS_PER_TURN: usize = 8;

/// What the thread reads into. The kernel gives it pages only as they are written to.
struct Buffers {
    /// A packet with its header and padding, or datagrams.
    frame: Vec<u8>,
    control: Vec<u8>,
}

pub(super) fn run(shared: &Shared) {
    let mut events = [EpollEvent::empty(); 64];
    let mut buffers = Buffers { frame: vec![0; HEADER + LARGEST + OVERHEAD], control: control_space() };
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
                UDP => from_network(shared, &mut buffers),
                token => {
                    if let Ok(id) = u32::try_from(token) {
                        from_link(shared, LinkId(id), &mut buffers.frame);
                    }
                }
            }
        }
    }
}

fn from_network(shared: &Shared, buffers: &mut Buffers) {
    let mut shaken = false;
    for _ in 0..READS_PER_TURN {
        let received = match shared.udp.receive(&mut buffers.frame, &mut buffers.control) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                tracing::debug!(%error, "UDP socket");
                break;
            }
        };
        let now = Instant::now();
        let mut state = shared.lock();
        let (engine, _, mut output) = state.parts(&shared.udp);
        for datagram in buffers.frame[..received.length].chunks(received.stride.max(1)) {
            shaken |= engine.inbound(datagram, received.from, now, &mut output);
        }
    }
    shared.flush();
    if shaken {
        shared.handshakes.notify_waiters();
    }
}

fn from_link(shared: &Shared, id: LinkId, buffer: &mut [u8]) {
    for _ in 0..READS_PER_TURN {
        let mut state = shared.lock();
        let (engine, links, mut output) = state.parts(&shared.udp);
        let Some(Link { tun, mtu }) = links.get(&id) else {
            break;
        };
        match tun.read(&mut buffer[..HEADER + LARGEST]) {
            Ok(length) if tun.has_virtio_headers() => {
                if let Some(frame) = Frame::with_header(buffer, length) {
                    engine.outbound(id, frame, *mtu, &mut output);
                }
            }
            Ok(length) => engine.outbound(id, Frame::bare(buffer, length), *mtu, &mut output),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                // Its network namespace is gone; the owner of the link will notice by itself.
                tracing::debug!(%error, "interface closed");
                let _ = shared.epoll.delete(tun);
                break;
            }
        }
    }
    shared.flush();
}
