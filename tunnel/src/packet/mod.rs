//! Packets of a TUN interface as the kernel hands them over in bulk: super-packets of up to 64 KiB that are split into
//! segments on the way out, and segments that are joined on the way in.
//!
//! All of it is plain functions on bytes. What comes from outside may be hostile: nothing here panics, whatever it is
//! given, and what is not understood is left as it is.

mod checksum;
mod coalesce;
mod segment;
mod tcp;
mod virtio;

use std::net::IpAddr;

use boringtun::noise::Tunn;

pub(crate) use coalesce::Coalescer;
pub(crate) use segment::Segments;
use virtio::Segmentation;
pub(crate) use virtio::{HEADER, Header};

/// The largest IP packet, bytes.
pub(crate) const LARGEST: usize = u16::MAX as usize;

/// One read of a TUN interface.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// A packet, and the bytes behind it that may be overwritten by padding.
    Packet {
        /// The packet with what is behind it.
        buffer: &'a mut [u8],
        /// How long the packet is.
        length: usize,
    },
    /// A super-packet.
    Super(Segments<'a>),
}

impl<'a> Frame<'a> {
    /// The packet that a TUN without virtio headers put into `buffer[..length]`.
    pub(crate) fn bare(buffer: &'a mut [u8], length: usize) -> Self {
        Self::Packet { buffer, length }
    }

    /// What a TUN with virtio headers put into `buffer[..length]`: the header says what is left to do. None if that
    /// makes no sense.
    pub(crate) fn with_header(buffer: &'a mut [u8], length: usize) -> Option<Self> {
        let (header, buffer) = buffer.split_first_chunk_mut::<HEADER>()?;
        let length = length.checked_sub(HEADER)?;
        let header = Header::parse(header)?;
        if let Segmentation::Tcp { size } = header.segmentation {
            return Segments::new(buffer.get(..length)?, header.csum_start.into(), size).map(Self::Super);
        }
        let packet = buffer.get_mut(..length)?;
        if header.needs_checksum {
            checksum::complete(packet, header.csum_start.into(), header.csum_offset.into())?;
        }
        Some(Self::Packet { buffer, length })
    }

    /// Where it goes, if it is an IP packet.
    pub(crate) fn destination(&self) -> Option<IpAddr> {
        match self {
            Self::Packet { buffer, length } => Tunn::dst_address(buffer.get(..*length)?),
            Self::Super(segments) => Tunn::dst_address(segments.packet()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
