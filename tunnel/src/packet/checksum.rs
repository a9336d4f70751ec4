//! The checksum of IPv4, TCP and UDP headers (RFC 1071).

use super::tcp::{Layout, PROTOCOL};

/// Adds 16-bit words in the machine's own byte order; RFC 1071, 2(B) says why that is right.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    let mut total: u64 = chunks.by_ref().map(|word| word.try_into().map_or(0, u32::from_ne_bytes)).map(u64::from).sum();
    let mut rest = [0; 4];
    let tail = chunks.remainder();
    rest[..tail.len()].copy_from_slice(tail);
    total += u64::from(u32::from_ne_bytes(rest));
    total
}

/// The sum in 16 bits, its bytes in network order.
pub(super) fn fold(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // What is left fits.
    #[expect(clippy::cast_possible_truncation, reason = "at most 0xffff")]
    (sum as u16).to_ne_bytes()
}

/// The checksum whose field counted as zero in this sum; added to all the rest it gives 0xffff.
pub(super) fn finish(sum: u64) -> [u8; 2] {
    fold(sum).map(|byte| !byte)
}

/// True if what was summed holds its own right checksum.
pub(super) fn verifies(sum: u64) -> bool {
    fold(sum) == [0xff, 0xff]
}

/// The sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1) of a TCP segment of this length in this IP packet,
/// whose header must be whole.
pub(super) fn pseudo_header(packet: &[u8], layout: Layout, length: u16) -> u64 {
    let addresses = packet.get(layout.addresses()).unwrap_or_default();
    sum(addresses) + u64::from(u16::from(PROTOCOL).to_be()) + u64::from(length.to_be())
}

/// Does what the kernel left to the device: sums from `start` to the end, where the field at `start + offset` holds
/// the pseudo header's sum, and puts the checksum there. None if that is not within the packet.
pub(super) fn complete(packet: &mut [u8], start: usize, offset: usize) -> Option<()> {
    /// Where UDP has its checksum; there zero means that there is none (RFC 768).
    const UDP: usize = 6;
    let part = packet.get_mut(start..)?;
    let total = sum(part);
    let field = part.get_mut(offset..)?.first_chunk_mut()?;
    *field = match finish(total) {
        [0, 0] if offset == UDP => [0xff, 0xff],
        checksum => checksum,
    };
    Some(())
}
