//! Where things are in an IP packet with a TCP segment in it (RFC 791, RFC 8200, RFC 9293).

use std::ops::Range;

/// TCP's number among IP's protocols.
pub(super) const PROTOCOL: u8 = 6;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;

/// Fields of IPv4.
pub(super) const V4_LENGTH: usize = 2;
pub(super) const V4_ID: usize = 4;
pub(super) const V4_FRAGMENT: usize = 6;
pub(super) const V4_PROTOCOL: usize = 9;
pub(super) const V4_CHECKSUM: usize = 10;

/// Fields of IPv6.
pub(super) const V6_LENGTH: usize = 4;
pub(super) const V6_NEXT_HEADER: usize = 6;

/// Fields of TCP.
pub(super) const SEQUENCE: usize = 4;
const DATA_OFFSET: usize = 12;
pub(super) const FLAGS: usize = 13;
pub(super) const CHECKSUM: usize = 16;

/// Flags of TCP.
pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const CWR: u8 = 0x80;

/// Where the parts of a TCP packet are; its headers are within the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) ipv6: bool,
    /// Where the TCP header begins: the length of the IP header and its extensions.
    pub(super) tcp: usize,
    /// Where the payload begins.
    pub(super) payload: usize,
}

impl Layout {
    /// The layout of a packet whose TCP header begins at `tcp`. None if there can be none.
    pub(super) fn new(packet: &[u8], tcp: usize) -> Option<Self> {
        let ipv6 = match packet.first()? >> 4 {
            4 if tcp == v4_header(packet)? && *packet.get(V4_PROTOCOL)? == PROTOCOL => false,
            6 if tcp >= IPV6_HEADER => true,
            _ => return None,
        };
        let header = usize::from(*packet.get(tcp + DATA_OFFSET)? >> 4) * 4;
        let payload = tcp + header;
        (header >= TCP_HEADER && payload <= packet.len()).then_some(Self { ipv6, tcp, payload })
    }

    /// Source and destination address.
    pub(super) fn addresses(self) -> Range<usize> {
        if self.ipv6 { 8..IPV6_HEADER } else { 12..IPV4_HEADER }
    }
}

/// The length of an IPv4 header, options included.
fn v4_header(packet: &[u8]) -> Option<usize> {
    let length = usize::from(*packet.first()? & 0xf) * 4;
    (length >= IPV4_HEADER && length <= packet.len()).then_some(length)
}

/// A field of two bytes in network order.
pub(super) fn get_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// A field of four bytes in network order.
pub(super) fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Writes a field; nothing happens if it is not within the bytes.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = value;
    }
}
