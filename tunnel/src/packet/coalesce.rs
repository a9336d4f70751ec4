//! Joins TCP segments that follow each other into super-packets, as the kernel's own receive offload would.
//!
//! The kernel does not verify the checksums in what is handed to it joined, so here each segment's are verified first.

use super::LARGEST;
use super::checksum::{finish, fold, pseudo_header, sum, verifies};
use super::tcp::{
    ACK, CHECKSUM, FLAGS, IPV4_HEADER, IPV6_HEADER, Layout, PROTOCOL, PSH, SEQUENCE, V4_CHECKSUM, V4_FRAGMENT, V4_ID,
    V4_LENGTH, V6_LENGTH, V6_NEXT_HEADER, get_u16, get_u32, put,
};
use super::virtio::{HEADER, Header};

/// Don't Fragment. With any other bit of its field set it is a fragment, or unheard of.
const DONT_FRAGMENT: u16 = 0x4000;

/// At most one super-packet in the making.
#[derive(Debug)]
pub(crate) struct Coalescer {
    buffer: Vec<u8>,
    open: Option<Open>,
}

/// What is known of the super-packet in the buffer.
#[derive(Debug, Clone, Copy)]
struct Open {
    layout: Layout,
    /// Payload of each segment, bytes.
    size: usize,
    /// Where the next segment's payload goes.
    end: usize,
    segments: u16,
    sequence: u32,
    /// The next one's identification; none where it means nothing: in IPv6, and in IPv4 that must not be fragmented
    /// (RFC 6864, 4.1).
    id: Option<u16>,
}

/// A segment that may be joined with others.
#[derive(Debug, Clone, Copy)]
struct Segment {
    layout: Layout,
    sequence: u32,
    /// Its identification, where it means something.
    id: Option<u16>,
    push: bool,
}

impl Coalescer {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; LARGEST], open: None }
    }

    /// Takes one packet. `write` gets, in order, each virtio header and packet that is complete.
    pub(crate) fn push(&mut self, packet: &[u8], write: &mut impl FnMut(&[u8; HEADER], &[u8])) {
        let Some(segment) = Segment::parse(packet) else {
            self.flush(write);
            write(&Header::PLAIN, packet);
            return;
        };
        let length = packet.len() - segment.layout.payload;
        match &self.open {
            Some(open) if open.takes(&segment, packet, &self.buffer) => {
                let short = length < open.size;
                self.append(&segment, packet);
                if short || segment.push {
                    self.flush(write);
                }
            }
            _ => {
                self.flush(write);
                if segment.push {
                    write(&Header::PLAIN, packet);
                } else {
                    self.begin(&segment, packet);
                }
            }
        }
    }

    /// Completes what is open.
    pub(crate) fn flush(&mut self, write: &mut impl FnMut(&[u8; HEADER], &[u8])) {
        let Some(open) = self.open.take() else {
            return;
        };
        let Some(packet) = self.buffer.get_mut(..open.end) else {
            return;
        };
        match open.header() {
            Some(header) if open.segments > 1 => {
                open.finish_headers(packet);
                write(&header, packet);
            }
            _ => write(&Header::PLAIN, packet),
        }
    }

    fn begin(&mut self, segment: &Segment, packet: &[u8]) {
        let Some(room) = self.buffer.get_mut(..packet.len()) else {
            return;
        };
        room.copy_from_slice(packet);
        let size = packet.len() - segment.layout.payload;
        self.open = Some(Open {
            layout: segment.layout,
            size,
            end: packet.len(),
            segments: 1,
            sequence: segment.after(size),
            id: segment.next_id(),
        });
    }

    fn append(&mut self, segment: &Segment, packet: &[u8]) {
        let payload = packet.get(segment.layout.payload..).unwrap_or_default();
        let Some(open) = &mut self.open else {
            return;
        };
        let Some(room) = self.buffer.get_mut(open.end..open.end + payload.len()) else {
            return;
        };
        room.copy_from_slice(payload);
        open.end += payload.len();
        open.segments += 1;
        open.sequence = segment.after(payload.len());
        open.id = segment.next_id();
        if segment.push
            && let Some(flags) = self.buffer.get_mut(open.layout.tcp + FLAGS)
        {
            *flags |= PSH;
        }
    }
}

impl Open {
    /// Whether the segment follows what is open as if both had been split from one.
    fn takes(&self, segment: &Segment, packet: &[u8], buffer: &[u8]) -> bool {
        let length = packet.len() - self.layout.payload.min(packet.len());
        segment.layout == self.layout
            && segment.sequence == self.sequence
            && segment.id == self.id
            && length <= self.size
            && self.end + length <= LARGEST
            && same_flow(self.layout, packet, buffer)
    }

    fn header(&self) -> Option<[u8; HEADER]> {
        let tcp = u16::try_from(self.layout.tcp).ok()?;
        let headers = u16::try_from(self.layout.payload).ok()?;
        Some(Header::tcp(self.layout.ipv6, tcp, headers, u16::try_from(self.size).ok()?))
    }

    /// Gives the super-packet its own length and checksums; TCP's is the pseudo header's sum, the rest is for whoever
    /// splits it.
    fn finish_headers(&self, packet: &mut [u8]) {
        let Layout { ipv6, tcp, .. } = self.layout;
        let length = |from: usize| u16::try_from(self.end - from).unwrap_or(u16::MAX);
        if ipv6 {
            put(packet, V6_LENGTH, length(IPV6_HEADER).to_be_bytes());
        } else {
            put(packet, V4_LENGTH, length(0).to_be_bytes());
            put(packet, V4_CHECKSUM, [0, 0]);
            let checksum = finish(sum(packet.get(..tcp).unwrap_or_default()));
            put(packet, V4_CHECKSUM, checksum);
        }
        let pseudo = fold(pseudo_header(packet, self.layout, length(tcp)));
        put(packet, tcp + CHECKSUM, pseudo);
    }
}

impl Segment {
    /// A segment with payload, nothing unusual in its headers, and right checksums.
    fn parse(packet: &[u8]) -> Option<Self> {
        let layout = match packet.first()? {
            0x45 => v4(packet)?,
            first if first >> 4 == 6 => v6(packet)?,
            _ => return None,
        };
        let tcp = layout.tcp;
        let flags = *packet.get(tcp + FLAGS)?;
        let reserved = packet.get(tcp + FLAGS - 1)? & 0xf;
        if packet.len() == layout.payload || flags & !PSH != ACK || reserved != 0 {
            return None;
        }
        let own = u16::try_from(packet.len() - tcp).ok()?;
        let intact = verifies(sum(packet.get(tcp..)?) + pseudo_header(packet, layout, own));
        intact.then_some(Self {
            layout,
            sequence: get_u32(packet, tcp + SEQUENCE)?,
            id: if layout.ipv6 { None } else { v4_id(packet)? },
            push: flags & PSH != 0,
        })
    }

    fn next_id(&self) -> Option<u16> {
        self.id.map(|id| id.wrapping_add(1))
    }

    /// The sequence number after this much payload.
    fn after(&self, payload: usize) -> u32 {
        self.sequence.wrapping_add(u32::try_from(payload).unwrap_or_default())
    }
}

/// IPv4 without options, whole, TCP in it.
fn v4(packet: &[u8]) -> Option<Layout> {
    let whole = usize::from(get_u16(packet, V4_LENGTH)?) == packet.len();
    let unfragmented = get_u16(packet, V4_FRAGMENT)? & !DONT_FRAGMENT == 0;
    let intact = verifies(sum(packet.get(..IPV4_HEADER)?));
    (whole && unfragmented && intact).then(|| Layout::new(packet, IPV4_HEADER)).flatten()
}

/// The identification, if it means something. None if the packet is cut off.
fn v4_id(packet: &[u8]) -> Option<Option<u16>> {
    let atomic = get_u16(packet, V4_FRAGMENT)? & DONT_FRAGMENT != 0;
    let id = get_u16(packet, V4_ID)?;
    Some((!atomic).then_some(id))
}

/// IPv6 without extensions, whole, TCP in it.
fn v6(packet: &[u8]) -> Option<Layout> {
    let whole = usize::from(get_u16(packet, V6_LENGTH)?) + IPV6_HEADER == packet.len();
    let tcp = *packet.get(V6_NEXT_HEADER)? == PROTOCOL;
    (whole && tcp).then(|| Layout::new(packet, IPV6_HEADER)).flatten()
}

/// Whether all header fields are the same but those that differ from segment to segment.
fn same_flow(layout: Layout, a: &[u8], b: &[u8]) -> bool {
    let Layout { ipv6, tcp, payload } = layout;
    let same = |from: usize, to: usize| matches!((a.get(from..to), b.get(from..to)), (Some(a), Some(b)) if a == b);
    let ip = if ipv6 {
        same(0, V6_LENGTH) && same(V6_NEXT_HEADER, tcp)
    } else {
        same(0, V4_LENGTH) && same(V4_FRAGMENT, V4_CHECKSUM) && same(V4_CHECKSUM + 2, tcp)
    };
    ip && same(tcp, tcp + SEQUENCE)
        && same(tcp + SEQUENCE + 4, tcp + FLAGS)
        && same(tcp + FLAGS + 1, tcp + CHECKSUM)
        && same(tcp + CHECKSUM + 2, payload)
}
