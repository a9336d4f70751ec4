//! Packets by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const UDP: u8 = 17;
const ICMP: u8 = 1;

/// A UDP packet without a checksum, which IPv4 allows.
pub(crate) fn udp(from: &str, to: &str, source_port: u16, port: u16) -> Vec<u8> {
    let datagram = [&source_port.to_be_bytes()[..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat();
    ipv4(from, to, UDP, &datagram)
}

/// The same for IPv6, which would refuse it at its end; here it only has to be sent on or not.
pub(crate) fn udp6(from: &str, to: &str, source_port: u16, port: u16) -> Vec<u8> {
    let octets = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
    let header = [&[0x60, 0, 0, 0, 0, 8, UDP, 64][..], &octets(from), &octets(to)].concat();
    [&header[..], &source_port.to_be_bytes(), &port.to_be_bytes(), &[0, 8, 0, 0]].concat()
}

/// The answer of a host on which nobody listens to `packet`.
pub(crate) fn port_unreachable(from: &str, to: &str, packet: &[u8]) -> Vec<u8> {
    let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0], packet].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    ipv4(from, to, ICMP, &message)
}

/// The source of an IPv4 packet.
pub(crate) fn source(packet: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap())
}

/// The destination of an IPv4 packet.
pub(crate) fn destination(packet: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap())
}

/// The source port of a UDP packet in IPv4.
pub(crate) fn source_port(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[20], packet[21]])
}

fn ipv4(from: &str, to: &str, protocol: u8, content: &[u8]) -> Vec<u8> {
    let octets = |address: &str| address.parse::<Ipv4Addr>().unwrap().octets();
    let length = u16::try_from(20 + content.len()).unwrap().to_be_bytes();
    let mut header =
        [&[0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0][..], &octets(from), &octets(to)].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&header[..], content].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap()).to_be_bytes()
}
