//! The UDP socket: many datagrams in one system call where the kernel can (`UDP_SEGMENT` and `UDP_GRO` of udp(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::outbox::Batch;

/// Asked for as socket buffer sizes, bytes; the kernel grants what it allows. The default costs 5 % of throughput.
const SOCKET_BUFFER: usize = 4 << 20;

/// How long a send waits for the network card before the datagrams are lost, as on any network.
const SEND_LIMIT: Duration = Duration::from_millis(10);

pub(super) struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    /// The kernel takes batches.
    segments: AtomicBool,
}

/// Datagrams from one address, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) from: SocketAddr,
    pub(super) length: usize,
    /// The length of each datagram but the last, which may be shorter.
    pub(super) stride: usize,
}

impl Udp {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        enlarge_buffers(&socket);
        if let Err(error) = allow_fragments(&socket) {
            tracing::debug!(%error, "routers are not to fragment datagrams");
        }
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        // Setting the default, no segments, tells whether the kernel knows of them at all.
        let segments = setsockopt(&socket, sockopt::UdpGsoSegment, &0).is_ok();
        if let Err(error) = setsockopt(&socket, sockopt::UdpGroSegment, &true) {
            tracing::debug!(%error, "datagrams are received one by one");
        }
        Ok(Self { local: socket.local_addr()?, socket, segments: AtomicBool::new(segments) })
    }

    pub(super) fn local_port(&self) -> u16 {
        self.local.port()
    }

    /// Uses no other network interface than the one that leads to `endpoint` now.
    pub(super) fn stay_on_route(&self, endpoint: SocketAddr) -> io::Result<()> {
        let any: IpAddr = match endpoint {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting a UDP socket sends nothing, and chooses the interface's address.
        let probe = UdpSocket::bind((any, 0))?;
        probe.connect(endpoint)?;
        let own = probe.local_addr()?.ip();
        let mut interfaces = nix::ifaddrs::getifaddrs()?;
        let found = interfaces.find(|interface| {
            interface.address.as_ref().and_then(socket_addr).is_some_and(|address| address.ip() == own)
        });
        let name = found.ok_or_else(|| io::Error::other(format!("no interface has {own}")))?.interface_name;
        SockRef::from(&self.socket).bind_device(Some(name.as_bytes()))
    }

    /// Receives what is there, without waiting. `control` is scratch space made with [`control_space`].
    pub(super) fn receive(&self, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(control), MsgFlags::MSG_DONTWAIT)?;
        let segment = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(length) => usize::try_from(length).ok().filter(|length| *length > 0),
            _ => None,
        });
        let from = message.address.as_ref().and_then(socket_addr);
        let from = from.ok_or_else(|| io::Error::other("a datagram came from no IP address"))?;
        let length = message.bytes;
        Ok(Received { from, length, stride: segment.unwrap_or(length) })
    }

    /// Sends datagrams. Those that the kernel does not take are lost, as on any network.
    pub(super) fn send(&self, batch: Batch<'_>) {
        let to = SockaddrStorage::from(self.native(batch.to));
        let single = batch.bytes.len() <= batch.stride;
        if !single && self.segments.load(Ordering::Relaxed) {
            match self.send_segments(&to, batch) {
                Ok(()) => return,
                // The card or the route cannot have checksums completed.
                Err(Errno::EIO) => {
                    tracing::debug!(to = %batch.to, "datagrams are sent one by one from now on");
                    self.segments.store(false, Ordering::Relaxed);
                }
                // They are larger than this route's MTU: the kernel fragments only single ones.
                Err(Errno::EINVAL | Errno::EMSGSIZE) => {}
                Err(error) => {
                    tracing::debug!(to = %batch.to, %error, "datagrams not sent");
                    return;
                }
            }
        }
        for datagram in batch.bytes.chunks(batch.stride.max(1)) {
            if let Err(error) = self.send_message(&to, datagram, &[]) {
                tracing::debug!(to = %batch.to, %error, "datagram not sent");
            }
        }
    }

    fn send_segments(&self, to: &SockaddrStorage, batch: Batch<'_>) -> Result<(), Errno> {
        let stride = u16::try_from(batch.stride).map_err(|_| Errno::EINVAL)?;
        self.send_message(to, batch.bytes, &[ControlMessage::UdpGsoSegments(&stride)])
    }

    fn send_message(&self, to: &SockaddrStorage, bytes: &[u8], control: &[ControlMessage<'_>]) -> Result<(), Errno> {
        let slices = [IoSlice::new(bytes)];
        sendmsg(self.socket.as_raw_fd(), &slices, control, MsgFlags::empty(), Some(to)).map(drop)
    }

    /// The address as the socket's family has it.
    fn native(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.local.is_ipv6() => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            other => other,
        }
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Room for what the kernel says beside the datagrams.
pub(super) fn control_space() -> Vec<u8> {
    nix::cmsg_space!(i32)
}

/// Endpoints are compared and shown as IPv4 where they are, also on a socket for both families.
fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = SocketAddrV6::from(*address.as_sockaddr_in6()?);
    let mapped = v6.ip().to_ipv4_mapped().map(|v4| (v4, v6.port()).into());
    Some(mapped.unwrap_or(SocketAddr::V6(v6)))
}

/// Lets routers fragment what does not fit, as the kernel's WireGuard does: the tunnel's MTU was chosen by what was known of
/// the way at the start, and what a tunnel carries is not sent again in smaller pieces.
fn allow_fragments(socket: &Socket) -> io::Result<()> {
    let dont: libc::c_int = libc::IP_PMTUDISC_DONT;
    let length = libc::socklen_t::try_from(size_of_val(&dont)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes, one int, from `dont`, which outlives the call.
    let result = unsafe {
        let value = (&raw const dont).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, length)
    };
    Errno::result(result)?;
    Ok(())
}

fn enlarge_buffers(socket: &Socket) {
    for result in [socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER)] {
        if let Err(error) = result {
            tracing::debug!(%error, "socket buffer stays at its default");
        }
    }
    // Who may goes beyond what is allowed to all.
    let _ = setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER);
    let _ = setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// Sends datagrams of 3, 3 and 1 bytes; how each arrives.
    fn sent_and_received(segments: bool, address: SocketAddr) -> Vec<Vec<u8>> {
        let (from, to) = (Udp::bind(address).unwrap(), Udp::bind(address).unwrap());
        from.segments.fetch_and(segments, Ordering::Relaxed);
        let to_address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.local_port());
        from.send(Batch { to: to_address, bytes: b"onetwo3", stride: 3 });
        let mut datagrams = Vec::new();
        let (mut buffer, mut control) = ([0; 100], control_space());
        while datagrams.len() < 3 {
            let mut ready = [PollFd::new(to.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ready, PollTimeout::from(5000_u16)), Ok(1), "got {datagrams:?}");
            let received = to.receive(&mut buffer, &mut control).unwrap();
            assert_eq!(received.from, (Ipv4Addr::LOCALHOST, from.local_port()).into());
            datagrams.extend(buffer[..received.length].chunks(received.stride).map(<[u8]>::to_vec));
        }
        datagrams
    }

    #[test]
    fn a_batch_arrives_as_the_datagrams_that_it_is() {
        for segments in [true, false] {
            for address in ["127.0.0.1:0", "[::]:0"] {
                let datagrams = sent_and_received(segments, address.parse().unwrap());
                assert_eq!(datagrams, [b"one".to_vec(), b"two".to_vec(), b"3".to_vec()], "{address} {segments}");
            }
        }
    }

    #[test]
    fn datagrams_may_be_fragmented_on_their_way() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let udp = Udp::bind(address.parse().unwrap()).unwrap();
            let (mut value, mut length): (libc::c_int, _) = (-1, 4);
            // SAFETY: the kernel writes at most `length` bytes, one int, into `value`.
            let result = unsafe {
                let value = (&raw mut value).cast();
                let fd = udp.socket.as_raw_fd();
                libc::getsockopt(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, &raw mut length)
            };
            assert_eq!((result, value), (0, libc::IP_PMTUDISC_DONT), "{address}");
        }
    }

    #[test]
    fn nothing_there_is_not_waited_for() {
        let udp = Udp::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let error = udp.receive(&mut [0; 10], &mut control_space()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
