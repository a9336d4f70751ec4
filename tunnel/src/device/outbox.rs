//! Datagrams that wait to be sent together: one behind the other, to one address, all of one length but the last.

use std::net::SocketAddr;

use crate::engine::OVERHEAD;
use crate::packet::LARGEST;

/// What the kernel takes in one send: UDP's largest payload over IPv4, and `UDP_MAX_SEGMENTS` of its older versions.
const MOST_BYTES: usize = 65_507;
const MOST_DATAGRAMS: usize = 64;

/// Datagrams for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    pub(super) to: SocketAddr,
    pub(super) bytes: &'a [u8],
    /// The length of each datagram but the last, which may be shorter.
    pub(super) stride: usize,
}

/// The datagrams that wait, and room for the next one behind them.
pub(super) struct Outbox {
    buffer: Vec<u8>,
    /// Where the first one that waits begins.
    start: usize,
    end: usize,
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy)]
struct Waiting {
    to: SocketAddr,
    stride: usize,
    count: usize,
    /// The last one is shorter, so that none can follow.
    closed: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        // The kernel gives it pages only as they are written to.
        Self { buffer: vec![0; LARGEST + OVERHEAD], start: 0, end: 0, waiting: None }
    }

    /// Room for a datagram of up to this many bytes; shorter than asked for if there can be none such. `send` gets
    /// what had to make way.
    pub(super) fn room(&mut self, length: usize, send: &mut impl FnMut(Batch<'_>)) -> &mut [u8] {
        if self.end - self.start + length > MOST_BYTES || self.end + length > self.buffer.len() {
            self.flush(send);
        }
        if self.waiting.is_none() {
            (self.start, self.end) = (0, 0);
        }
        let end = self.buffer.len().min(self.end + length);
        self.buffer.get_mut(self.end..end).unwrap_or_default()
    }

    /// The first `length` bytes of the room are a datagram for this address.
    pub(super) fn commit(&mut self, to: SocketAddr, length: usize, send: &mut impl FnMut(Batch<'_>)) {
        let fits = |waiting: &Waiting| {
            waiting.to == to && !waiting.closed && length <= waiting.stride && waiting.count < MOST_DATAGRAMS
        };
        if !self.waiting.as_ref().is_some_and(fits) {
            self.flush(send);
        }
        let waiting = self.waiting.get_or_insert(Waiting { to, stride: length, count: 0, closed: false });
        waiting.count += 1;
        waiting.closed = length < waiting.stride;
        self.end += length;
    }

    /// Gives all that waits to `send`. The room behind it stays as it is.
    pub(super) fn flush(&mut self, send: &mut impl FnMut(Batch<'_>)) {
        if let Some(Waiting { to, stride, .. }) = self.waiting.take()
            && let Some(bytes) = self.buffer.get(self.start..self.end)
        {
            send(Batch { to, bytes, stride });
        }
        self.start = self.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address, stride and bytes of a batch.
    type Sent = (u16, usize, Vec<u8>);

    /// What is sent when datagrams for these ports, of these lengths and filled with these bytes, are queued.
    fn sent(datagrams: &[(u16, usize, u8)]) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut send = |batch: Batch<'_>| sent.push((batch.to.port(), batch.stride, batch.bytes.to_vec()));
        let mut outbox = Outbox::new();
        for (port, length, fill) in datagrams {
            // More room than needed, as for a packet that turns out to wait for a handshake.
            outbox.room(length + 100, &mut send)[..*length].fill(*fill);
            outbox.commit(([127, 0, 0, 1], *port).into(), *length, &mut send);
        }
        outbox.flush(&mut send);
        outbox.flush(&mut send);
        sent
    }

    #[test]
    fn equal_ones_for_one_address_go_together_and_a_shorter_one_ends_it() {
        let batches = sent(&[(1, 4, b'a'), (1, 4, b'b'), (1, 3, b'c'), (1, 3, b'd'), (1, 4, b'e'), (2, 4, b'f')]);
        let expected: Vec<Sent> =
            vec![(1, 4, b"aaaabbbbccc".into()), (1, 3, b"ddd".into()), (1, 4, b"eeee".into()), (2, 4, b"ffff".into())];
        assert_eq!(batches, expected);
    }

    #[test]
    fn no_more_than_the_kernel_takes() {
        let many = vec![(1, 32, 7); 150];
        let counts: Vec<usize> = sent(&many).iter().map(|(_, stride, bytes)| bytes.len() / stride).collect();
        assert_eq!(counts, [64, 64, 22]);
        let large = vec![(1, 1452, 7); 100];
        let batches = sent(&large);
        assert!(batches.iter().all(|(_, _, bytes)| bytes.len() <= MOST_BYTES));
        assert_eq!(batches.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>(), 145_200);
    }

    #[test]
    fn room_that_is_not_used_costs_nothing() {
        let mut outbox = Outbox::new();
        let mut none = |_: Batch<'_>| panic!("nothing was committed");
        for _ in 0..1000 {
            assert_eq!(outbox.room(1452, &mut none).len(), 1452);
        }
        assert_eq!(outbox.room(100_000, &mut none).len(), LARGEST + OVERHEAD);
        outbox.flush(&mut none);
    }
}
