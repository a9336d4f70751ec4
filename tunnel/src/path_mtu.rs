//! The tunnel's MTU: what fits through the way to its endpoint.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::libc;

use crate::config::DEFAULT_MTU;

/// Bytes around an inner packet at most: 40 IPv6, 8 UDP, 32 WireGuard.
const OVERHEAD: u32 = 80;

/// IPv6 asks for this much of every link, bytes (RFC 8200, 5).
const SMALLEST: u32 = 1280;

/// The interface MTU in bytes for a tunnel to this endpoint, by what the kernel knows of the route: at most
/// [`DEFAULT_MTU`], and that where nothing is known.
#[must_use]
pub fn mtu_towards(endpoint: SocketAddr) -> u32 {
    match route_mtu(endpoint) {
        Ok(mtu) => mtu.saturating_sub(OVERHEAD).clamp(SMALLEST, DEFAULT_MTU),
        Err(error) => {
            tracing::debug!(%endpoint, %error, "MTU of the route is unknown");
            DEFAULT_MTU
        }
    }
}

/// The path MTU of a connected socket (ip(7), ipv6(7)). Connecting a UDP socket sends nothing.
fn route_mtu(endpoint: SocketAddr) -> io::Result<u32> {
    let (any, level, option): (SocketAddr, _, _) = match endpoint {
        SocketAddr::V4(_) => ((Ipv4Addr::UNSPECIFIED, 0).into(), libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => ((Ipv6Addr::UNSPECIFIED, 0).into(), libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(endpoint)?;
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes, one int, into `value`.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length) };
    nix::errno::Errno::result(result)?;
    u32::try_from(value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_wider_than_a_tunnel_needs() {
        assert_eq!(mtu_towards("127.0.0.1:51820".parse().unwrap()), DEFAULT_MTU);
    }
}
