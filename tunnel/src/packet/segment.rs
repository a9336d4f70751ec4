//! Splits a TCP super-packet as a network card would: the kernel has left it to us.

use super::checksum::{finish, pseudo_header, sum};
use super::tcp::{
    CHECKSUM, CWR, FIN, FLAGS, IPV6_HEADER, Layout, PSH, SEQUENCE, V4_CHECKSUM, V4_ID, V4_LENGTH, V6_LENGTH, get_u16,
    get_u32, put,
};
use super::virtio::{HEADER, Header, Segmentation};

/// The segments of a super-packet, made one after the other.
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    packet: &'a [u8],
    layout: Layout,
    /// Payload of each segment but the last, bytes.
    size: usize,
    /// What the next segment is made of.
    next: Next,
}

#[derive(Debug, Clone, Copy)]
struct Next {
    /// Where its payload begins in the super-packet.
    at: usize,
    sequence: u32,
    /// Of IPv4.
    id: u16,
}

impl<'a> Segments<'a> {
    /// The segments of what has this virtio header. None if it is not a super-packet.
    pub(crate) fn parse(header: &[u8; HEADER], packet: &'a [u8]) -> Option<Self> {
        let header = Header::parse(header)?;
        match header.segmentation {
            Segmentation::Tcp { size } => Self::new(packet, header.csum_start.into(), size),
            Segmentation::None => None,
        }
    }

    /// A super-packet whose TCP header begins at `tcp`, to be split into segments of `size` bytes of payload. None if
    /// it is not one.
    pub(super) fn new(packet: &'a [u8], tcp: usize, size: u16) -> Option<Self> {
        let layout = Layout::new(packet, tcp)?;
        if size == 0 || layout.payload == packet.len() {
            return None;
        }
        let next = Next {
            at: layout.payload,
            sequence: get_u32(packet, tcp + SEQUENCE)?,
            id: if layout.ipv6 { 0 } else { get_u16(packet, V4_ID)? },
        };
        Some(Self { packet, layout, size: size.into(), next })
    }

    /// The whole super-packet.
    pub(crate) fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// Writes the next segment to the front of `to`; how long it is. None after the last, or if it does not fit.
    pub(crate) fn write_next(&mut self, to: &mut [u8]) -> Option<usize> {
        let Layout { payload: headers, .. } = self.layout;
        let end = self.packet.len().min(self.next.at.saturating_add(self.size));
        let payload = self.packet.get(self.next.at..end).filter(|payload| !payload.is_empty())?;
        let segment = to.get_mut(..headers + payload.len())?;
        let (head, body) = segment.split_at_mut_checked(headers)?;
        head.copy_from_slice(self.packet.get(..headers)?);
        body.copy_from_slice(payload);
        self.finish_headers(segment, end == self.packet.len())?;
        let Next { sequence, id, .. } = self.next;
        let advance = u32::try_from(payload.len()).ok()?;
        self.next = Next { at: end, sequence: sequence.wrapping_add(advance), id: id.wrapping_add(1) };
        Some(headers + payload.len())
    }

    /// Gives the segment its own lengths, numbers, flags and checksums.
    fn finish_headers(&self, segment: &mut [u8], last: bool) -> Option<()> {
        let Layout { ipv6, tcp, payload: headers } = self.layout;
        let length = u16::try_from(segment.len()).ok()?;
        if ipv6 {
            let behind = u16::try_from(segment.len() - IPV6_HEADER).ok()?;
            put(segment, V6_LENGTH, behind.to_be_bytes());
        } else {
            put(segment, V4_LENGTH, length.to_be_bytes());
            put(segment, V4_ID, self.next.id.to_be_bytes());
            put(segment, V4_CHECKSUM, [0, 0]);
            let checksum = finish(sum(segment.get(..tcp)?));
            put(segment, V4_CHECKSUM, checksum);
        }
        put(segment, tcp + SEQUENCE, self.next.sequence.to_be_bytes());
        let flags = segment.get_mut(tcp + FLAGS)?;
        if !last {
            *flags &= !(FIN | PSH);
        }
        if self.next.at != headers {
            *flags &= !CWR;
        }
        put(segment, tcp + CHECKSUM, [0, 0]);
        let own = u16::try_from(segment.len() - tcp).ok()?;
        let checksum = finish(sum(segment.get(tcp..)?) + pseudo_header(segment, self.layout, own));
        put(segment, tcp + CHECKSUM, checksum);
        Some(())
    }
}
