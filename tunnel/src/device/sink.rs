//! Where the engine's results go: datagrams to the socket in batches, packets to the interfaces joined.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::outbox::Outbox;
use super::shared::Link;
use super::udp::Udp;
use crate::Tun;
use crate::engine::{LinkId, Output};
use crate::packet::{Coalescer, HEADER, Header, Segments};

/// Packets on their way to one interface.
pub(super) struct Inbox {
    coalescer: Coalescer,
    /// Whose packets the coalescer may hold.
    link: Option<LinkId>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { coalescer: Coalescer::new(), link: None }
    }
}

/// Sends results to the descriptors. The last ones may wait until [`Sink::flush`].
pub(super) struct Sink<'a> {
    pub(super) udp: &'a Udp,
    pub(super) outbox: &'a mut Outbox,
    pub(super) inbox: &'a mut Inbox,
    pub(super) links: &'a HashMap<LinkId, Link>,
}

impl Sink<'_> {
    /// Sends and delivers what waits.
    pub(super) fn flush(&mut self) {
        self.outbox.flush(&mut |batch| self.udp.send(batch));
        self.flush_inbox();
    }

    /// What is for a link that has gone meanwhile is for nobody.
    fn flush_inbox(&mut self) {
        let link = self.inbox.link.take().and_then(|link| self.links.get(&link));
        self.inbox.coalescer.flush(&mut |header, packet| {
            if let Some(link) = link {
                deliver(&link.tun, header, packet);
            }
        });
    }
}

impl Output for Sink<'_> {
    fn room(&mut self, length: usize) -> &mut [u8] {
        self.outbox.room(length, &mut |batch| self.udp.send(batch))
    }

    fn commit(&mut self, to: SocketAddr, length: usize) {
        self.outbox.commit(to, length, &mut |batch| self.udp.send(batch));
    }

    fn packet(&mut self, id: LinkId, bytes: &[u8]) {
        if self.inbox.link.is_some_and(|open| open != id) {
            self.flush_inbox();
        }
        let Some(Link { tun, .. }) = self.links.get(&id) else {
            return;
        };
        if tun.has_virtio_headers() {
            self.inbox.link = Some(id);
            self.inbox.coalescer.push(bytes, &mut |header, packet| deliver(tun, header, packet));
        } else {
            deliver(tun, &Header::PLAIN, bytes);
        }
    }
}

/// What the kernel does not take is lost, as on any network.
fn deliver(tun: &Tun, header: &[u8; HEADER], packet: &[u8]) {
    match tun.write(header, packet) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => deliver_split(tun, header, packet),
        Err(error) => not_delivered(&error),
    }
}

/// A kernel that does not take this super-packet may take its segments.
fn deliver_split(tun: &Tun, header: &[u8; HEADER], packet: &[u8]) {
    let Some(mut segments) = Segments::parse(header, packet) else {
        return;
    };
    let mut buffer = vec![0; packet.len()];
    while let Some(length) = segments.write_next(&mut buffer) {
        if let Err(error) = tun.write(&Header::PLAIN, &buffer[..length]) {
            not_delivered(&error);
        }
    }
}

fn not_delivered(error: &io::Error) {
    tracing::debug!(%error, "packet not delivered");
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    /// An interface that passes for one with virtio headers, and its other end.
    fn link() -> (Link, OwnedFd) {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (Link { tun: Tun::with_headers(ours), mtu: 1420 }, theirs)
    }

    /// How much can be read from an interface's other end.
    fn waiting(end: &OwnedFd) -> Option<usize> {
        nix::unistd::read(end, &mut [0; 2000]).ok()
    }

    fn sink<'a>(udp: &'a Udp, boxes: &'a mut (Outbox, Inbox), links: &'a HashMap<LinkId, Link>) -> Sink<'a> {
        let (outbox, inbox) = boxes;
        Sink { udp, outbox, inbox, links }
    }

    #[test]
    fn what_was_for_a_link_that_is_gone_reaches_no_other() {
        let udp = Udp::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let mut boxes = (Outbox::new(), Inbox::new());
        let ((first, first_end), (second, second_end)) = (link(), link());
        let (a, b) = (LinkId(1), LinkId(2));
        let mut links = HashMap::from([(a, first), (b, second)]);
        let packet = crate::packet::tests::tcp_packet();

        sink(&udp, &mut boxes, &links).packet(a, &packet);
        assert_eq!(waiting(&first_end), None, "it waits for more");
        sink(&udp, &mut boxes, &links).packet(b, &packet);
        assert_eq!(waiting(&first_end), Some(HEADER + packet.len()), "more is for another");
        links.remove(&b);
        let mut last = sink(&udp, &mut boxes, &links);
        last.flush();
        last.packet(a, &packet);
        last.flush();
        assert_eq!(waiting(&first_end), Some(HEADER + packet.len()));
        assert_eq!(waiting(&first_end), None);
        assert_eq!(waiting(&second_end), Some(0), "closed");
    }
}
