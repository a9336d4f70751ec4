//! The header before each packet of a TUN interface with `IFF_VNET_HDR` (virtio 1.2, 5.1.6; linux/virtio_net.h).

/// Its length, bytes: that of a legacy device without mergeable buffers, a TUN interface's default.
pub(crate) const HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
/// Beside one of the others: the first segment has CWR set.
const GSO_ECN: u8 = 0x80;

/// The field's place in a TCP header.
const TCP_CHECKSUM: u16 = 16;

/// What is left to do with a packet. Its `hdr_len` is not here: it is a hint, and not always right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The checksum field at `csum_start + csum_offset` holds only the sum of the pseudo header.
    pub(super) needs_checksum: bool,
    pub(super) segmentation: Segmentation,
    /// Where the transport header begins, if a checksum is needed or it is a super-packet.
    pub(super) csum_start: u16,
    pub(super) csum_offset: u16,
}

/// Whether it is several packets in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segmentation {
    None,
    /// TCP with this much payload in each segment but the last.
    Tcp {
        size: u16,
    },
}

impl Header {
    /// Reads a header. None for kinds that were not asked for.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let [flags, kind, _, _, size @ .., s0, s1, o0, o1] = bytes;
        let size = u16::from_ne_bytes(*size);
        let segmentation = match kind & !GSO_ECN {
            GSO_NONE => Segmentation::None,
            GSO_TCP4 | GSO_TCP6 => Segmentation::Tcp { size },
            _ => return None,
        };
        Some(Self {
            needs_checksum: flags & NEEDS_CHECKSUM != 0,
            segmentation,
            csum_start: u16::from_ne_bytes([*s0, *s1]),
            csum_offset: u16::from_ne_bytes([*o0, *o1]),
        })
    }

    /// The header of a packet with nothing left to do, as bytes.
    pub(crate) const PLAIN: [u8; HEADER] = [0; HEADER];

    /// The header, as bytes, of a TCP super-packet with headers of these lengths and this much payload in each
    /// segment.
    pub(super) fn tcp(ipv6: bool, ip_header: u16, all_headers: u16, size: u16) -> [u8; HEADER] {
        let [l0, l1] = all_headers.to_ne_bytes();
        let [z0, z1] = size.to_ne_bytes();
        let [s0, s1] = ip_header.to_ne_bytes();
        let [o0, o1] = TCP_CHECKSUM.to_ne_bytes();
        [NEEDS_CHECKSUM, if ipv6 { GSO_TCP6 } else { GSO_TCP4 }, l0, l1, z0, z1, s0, s1, o0, o1]
    }
}
