use proptest::prelude::*;

use super::checksum::{complete, pseudo_header, sum, verifies};
use super::tcp::Layout;
use super::*;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;
const CWR: u8 = 0x80;

/// What a TCP packet is made of.
#[derive(Debug, Clone)]
struct Spec {
    ipv6: bool,
    flags: u8,
    sequence: u32,
    id: u16,
    fragment: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Spec {
    fn new(payload: usize) -> Self {
        let payload = (0..payload).map(|at| at.to_le_bytes()[0]).collect();
        Self { ipv6: false, flags: ACK, sequence: 1000, id: 7, fragment: 0, options: vec![1; 12], payload }
    }

    fn ip_header(&self) -> usize {
        if self.ipv6 { 40 } else { 20 }
    }

    /// The packet with right checksums.
    fn build(&self) -> Vec<u8> {
        let tcp_length = u16::try_from(20 + self.options.len() + self.payload.len()).unwrap();
        let mut packet = vec![0; self.ip_header()];
        if self.ipv6 {
            packet[..8].copy_from_slice(&[0x60, 0, 0, 9, 0, 0, 6, 64]);
            packet[4..6].copy_from_slice(&tcp_length.to_be_bytes());
            packet[8..40].copy_from_slice(&[0xfd; 32]);
        } else {
            packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0]);
            packet[2..4].copy_from_slice(&(20 + tcp_length).to_be_bytes());
            packet[4..6].copy_from_slice(&self.id.to_be_bytes());
            packet[6..8].copy_from_slice(&self.fragment.to_be_bytes());
            packet[12..20].copy_from_slice(&[10, 5, 0, 2, 10, 96, 0, 10]);
            let checksum = checksum::finish(sum(&packet));
            packet[10..12].copy_from_slice(&checksum);
        }
        let tcp = packet.len();
        packet.extend([0x1f, 0x90, 0x9c, 0x40]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend([0, 0, 3, 4]);
        let offset = u8::try_from(5 + self.options.len() / 4).unwrap() << 4;
        packet.extend([offset, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(&self.options);
        packet.extend(&self.payload);
        let layout = Layout::new(&packet, tcp).unwrap();
        let checksum = checksum::finish(sum(&packet[tcp..]) + pseudo_header(&packet, layout, tcp_length));
        packet[tcp + 16..tcp + 18].copy_from_slice(&checksum);
        packet
    }
}

/// A packet that others could be joined with.
pub(crate) fn tcp_packet() -> Vec<u8> {
    Spec::new(100).build()
}

/// All segments of a packet.
fn split(packet: &[u8], tcp: usize, size: u16) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(packet, tcp, size).unwrap();
    let mut buffer = vec![0xee; LARGEST];
    std::iter::from_fn(|| segments.write_next(&mut buffer).map(|length| buffer[..length].to_vec())).collect()
}

/// What a coalescer makes of packets: virtio headers and packets.
fn join<'a>(packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<([u8; HEADER], Vec<u8>)> {
    let mut coalescer = Coalescer::new();
    let mut written = Vec::new();
    let mut write = |header: &[u8; HEADER], packet: &[u8]| written.push((*header, packet.to_vec()));
    for packet in packets {
        coalescer.push(packet, &mut write);
    }
    coalescer.flush(&mut write);
    written
}

/// The packets in frames, each as the kernel would see it: super-packets are split again.
fn flatten(frames: &[([u8; HEADER], Vec<u8>)]) -> Vec<Vec<u8>> {
    frames
        .iter()
        .flat_map(|(header, packet)| {
            let mut frame = [&header[..], packet].concat();
            let length = frame.len();
            match Frame::with_header(&mut frame, length).unwrap() {
                Frame::Packet { buffer, length } => vec![buffer[..length].to_vec()],
                Frame::Super(mut segments) => {
                    let mut buffer = vec![0; LARGEST];
                    std::iter::from_fn(|| segments.write_next(&mut buffer).map(|length| buffer[..length].to_vec()))
                        .collect()
                }
            }
        })
        .collect()
}

#[test]
fn the_example_of_rfc_1071() {
    let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum::fold(sum(&data)), [0xdd, 0xf2]);
    assert_eq!(checksum::fold(sum(&data[..7])), [0xdc, 0xfb], "a missing byte counts as zero");
}

#[test]
fn a_super_packet_becomes_segments_with_their_own_headers() {
    for ipv6 in [false, true] {
        let spec = Spec { ipv6, flags: ACK | PSH | FIN | CWR, ..Spec::new(2500) };
        let tcp = spec.ip_header();
        let segments = split(&spec.build(), tcp, 1000);
        let flags: Vec<u8> = segments.iter().map(|segment| segment[tcp + 13]).collect();
        assert_eq!(flags, [ACK | CWR, ACK, ACK | PSH | FIN]);
        for (index, segment) in segments.iter().enumerate() {
            let from = index * 1000;
            let payload = spec.payload[from..2500.min(from + 1000)].to_vec();
            let offset = u32::try_from(from).unwrap();
            let id = spec.id + u16::try_from(index).unwrap();
            let expected = Spec { flags: flags[index], sequence: 1000 + offset, id, payload, ..spec.clone() };
            assert_eq!(*segment, expected.build(), "segment {index}");
        }
    }
}

#[test]
fn numbers_wrap_around() {
    let spec = Spec { sequence: u32::MAX - 5, id: u16::MAX, ..Spec::new(20) };
    let segments = split(&spec.build(), 20, 10);
    let second = Spec { sequence: 4, id: 0, payload: spec.payload[10..].to_vec(), ..spec };
    assert_eq!(segments[1], second.build());
    assert_eq!(join(&segments).len(), 1);
}

#[test]
fn segments_are_joined_until_a_short_or_pushed_one() {
    for ipv6 in [false, true] {
        let spec = Spec { ipv6, ..Spec::new(3500) };
        let mut segments = split(&spec.build(), spec.ip_header(), 1000);
        let next = Spec { sequence: 1000 + 3500, id: 7 + 4, flags: ACK | PSH, ..spec.clone() };
        segments.extend(split(&next.build(), spec.ip_header(), 3500));
        let frames = join(&segments);
        let lengths: Vec<usize> = frames.iter().map(|(_, packet)| packet.len() - spec.ip_header() - 32).collect();
        assert_eq!(lengths, [3500, 3500]);
        assert_eq!(frames[0].0[0], 1, "the checksum is to be completed");
        assert_eq!(frames[1].0, Header::PLAIN);
        assert_eq!(flatten(&frames), segments);
    }
}

#[test]
fn what_a_super_packet_ends_with_is_pushed_again() {
    let spec = Spec { flags: ACK | PSH, ..Spec::new(3000) };
    let segments = split(&spec.build(), 20, 1000);
    let frames = join(&segments);
    assert_eq!(frames.len(), 1);
    assert_eq!(flatten(&frames), segments);
}

#[test]
fn identifications_matter_only_to_fragments() {
    let pair = |fragment, id| {
        let first = Spec { fragment, ..Spec::new(100) };
        let second = Spec { sequence: 1100, id, ..first.clone() };
        join(&[first.build(), second.build()]).len()
    };
    assert_eq!(pair(0, 8), 1);
    assert_eq!(pair(0, 7), 2);
    assert_eq!(pair(0x4000, 7), 1);
    assert_eq!(pair(0x2000, 8), 2, "fragments are left alone");
}

#[test]
fn what_differs_is_not_joined() {
    let first = Spec::new(100);
    let second = Spec { sequence: 1100, id: 8, ..first.clone() };
    assert_eq!(join(&[first.build(), second.build()]).len(), 1);
    // Any other byte of the header and any broken checksum: delivered as they came.
    for at in 0..52 {
        let mut changed = second.build();
        changed[at] ^= 1;
        let packets = [first.build(), changed];
        let frames = join(&packets);
        assert_eq!(frames.len(), 2, "byte {at}");
        assert!(frames.iter().all(|(header, _)| *header == Header::PLAIN));
        assert_eq!(flatten(&frames), packets, "byte {at}");
    }
    for other in [
        Spec { sequence: 1101, ..second.clone() },
        Spec { flags: ACK | FIN, ..second.clone() },
        Spec { flags: ACK | CWR, ..second.clone() },
        Spec { flags: 0x02, ..second.clone() },
        Spec { options: vec![1; 16], ..second.clone() },
        Spec { options: vec![0; 12], ..second.clone() },
        Spec { payload: vec![], ..second.clone() },
        Spec { payload: vec![0; 101], ..second.clone() },
        Spec { ipv6: true, ..second },
    ] {
        assert_eq!(join(&[first.build(), other.build()]).len(), 2, "{other:?}");
    }
}

#[test]
fn a_super_packet_is_no_larger_than_ip_allows() {
    let segments: Vec<Vec<u8>> = (0..60)
        .map(|index: u16| {
            let sequence = 1000 + u32::from(index) * 1400;
            Spec { sequence, id: 7 + index, ..Spec::new(1400) }.build()
        })
        .collect();
    let frames = join(&segments);
    assert_eq!(frames.len(), 2);
    assert!(frames[0].1.len() > LARGEST - 1400);
    assert_eq!(flatten(&frames), segments);
}

#[test]
fn a_checksum_left_to_the_device_is_completed() {
    let whole = Spec::new(33).build();
    let layout = Layout::new(&whole, 20).unwrap();
    let mut partial = whole.clone();
    let length = u16::try_from(whole.len() - 20).unwrap();
    partial[36..38].copy_from_slice(&checksum::fold(pseudo_header(&whole, layout, length)));
    let mut frame = [&[1, 0, 0, 0, 0, 0][..], &20_u16.to_ne_bytes(), &16_u16.to_ne_bytes(), &partial].concat();
    let length = frame.len();
    let Some(Frame::Packet { buffer, length }) = Frame::with_header(&mut frame, length) else {
        panic!("not a packet");
    };
    assert_eq!(buffer[..length], whole);
}

#[test]
fn udp_never_says_that_it_has_no_checksum() {
    let mut datagram = [0xff, 0xff, 0, 0, 0, 0, 0, 0];
    complete(&mut datagram, 0, 6).unwrap();
    assert_eq!(datagram[6..], [0xff, 0xff]);
    assert_eq!(complete(&mut datagram, 0, 7), None);
    assert_eq!(complete(&mut datagram, 9, 0), None);
}

fn spec() -> impl Strategy<Value = Spec> {
    let payload = (1..20_000_usize, any::<u8>()).prop_map(|(length, step)| {
        std::iter::successors(Some(0_u8), |byte| Some(byte.wrapping_add(step))).take(length).collect()
    });
    let flags = prop_oneof![Just(ACK), Just(ACK | PSH)];
    (any::<bool>(), flags, any::<u32>(), any::<u16>(), any::<bool>(), 0..=10_usize, payload).prop_map(
        |(ipv6, flags, sequence, id, atomic, words, payload)| {
            let fragment = if atomic { 0x4000 } else { 0 };
            Spec { ipv6, flags, sequence, id, fragment, options: vec![1; words * 4], payload }
        },
    )
}

proptest! {
    #[test]
    fn splitting_and_joining_gives_the_same_stream(spec in spec(), size in 1_u16..9000) {
        let whole = spec.build();
        let segments = split(&whole, spec.ip_header(), size);
        let headers = whole.len() - spec.payload.len();
        let payload: Vec<u8> = segments.iter().flat_map(|segment| segment[headers..].to_vec()).collect();
        prop_assert_eq!(&payload, &spec.payload);
        for segment in &segments {
            let layout = Layout::new(segment, spec.ip_header()).unwrap();
            let length = u16::try_from(segment.len() - layout.tcp).unwrap();
            let total = sum(&segment[layout.tcp..]) + pseudo_header(segment, layout, length);
            prop_assert!(verifies(total));
        }
        let frames = join(&segments);
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(flatten(&frames), segments);
    }

    #[test]
    fn streams_in_any_order_arrive_packet_by_packet(
        specs in prop::collection::vec(spec(), 1..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let all: Vec<Vec<u8>> =
            specs.iter().flat_map(|spec| split(&spec.build(), spec.ip_header(), 1400)).collect();
        // Identifications of packets that must not be fragmented may come out as others.
        let sent: Vec<Vec<u8>> = order.iter().map(|index| without_id(&all[index.index(all.len())])).collect();
        let got: Vec<Vec<u8>> =
            flatten(&join(order.iter().map(|index| &all[index.index(all.len())]))).iter().map(|packet| without_id(packet)).collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn hostile_frames_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..300_usize) {
        if let Some(frame) = Frame::with_header(&mut bytes, cut) {
            frame.destination();
            if let Frame::Super(mut segments) = frame {
                let mut buffer = [0; 150];
                while segments.write_next(&mut buffer).is_some() {}
            }
        }
    }

    #[test]
    fn hostile_headers_never_panic(
        spec in spec(),
        changes in prop::collection::vec((0..80_usize, any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        header in any::<[u8; HEADER]>(),
        kind in prop_oneof![Just(0_u8), Just(1), Just(4), Just(0x81)],
    ) {
        let mut packet = spec.build();
        for (at, value) in changes {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        packet.truncate(cut.index(packet.len() + 1));
        let frames = join([&packet, &spec.build(), &packet]);
        prop_assert_eq!(frames.iter().map(|(_, packet)| packet.len()).min(), Some(packet.len().min(spec.build().len())));
        let mut frame = [&header[..], &packet].concat();
        frame[1] = kind;
        let length = frame.len();
        if let Some(Frame::Super(mut segments)) = Frame::with_header(&mut frame, length) {
            let mut buffer = vec![0; LARGEST];
            while segments.write_next(&mut buffer).is_some() {}
        }
    }
}

/// The packet as if its identification, if it has one that means nothing, were zero.
fn without_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}
