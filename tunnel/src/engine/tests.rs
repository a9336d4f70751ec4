use std::net::Ipv4Addr;

use super::*;

#[derive(Default)]
struct Collected {
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    packets: Vec<(LinkId, Vec<u8>)>,
    room: Vec<u8>,
}

impl Output for Collected {
    fn room(&mut self, length: usize) -> &mut [u8] {
        self.room.resize(length, 0);
        &mut self.room
    }
    fn commit(&mut self, to: SocketAddr, length: usize) {
        self.datagrams.push((to, self.room[..length].to_vec()));
    }
    fn packet(&mut self, link: LinkId, bytes: &[u8]) {
        self.packets.push((link, bytes.to_vec()));
    }
}

struct Side {
    engine: Engine,
    key: PublicKey,
    address: SocketAddr,
    out: Collected,
}

impl Side {
    fn new(port: u16) -> Self {
        let key = PrivateKey::generate();
        Self {
            key: key.public_key(),
            engine: Engine::new(key),
            address: (Ipv4Addr::LOCALHOST, port).into(),
            out: Collected::default(),
        }
    }

    fn add(&mut self, other: PublicKey, link: u32, allowed: &str, endpoint: Option<SocketAddr>) {
        let peer = Peer {
            public_key: other,
            link: LinkId(link),
            allowed_ips: vec![allowed.parse().unwrap()],
            endpoint,
            keepalive: None,
        };
        self.engine.add_peer(peer, &mut self.out);
    }

    fn send(&mut self, link: u32, packet: &[u8]) {
        let mut buffer = packet.to_vec();
        buffer.resize(2048, 0xff);
        self.engine.outbound(LinkId(link), Frame::bare(&mut buffer, packet.len()), 1420, &mut self.out);
    }

    fn received(&mut self) -> Vec<(LinkId, Vec<u8>)> {
        std::mem::take(&mut self.out.packets)
    }
}

/// Carries datagrams back and forth until both are quiet.
fn exchange(a: &mut Side, b: &mut Side) {
    while !(a.out.datagrams.is_empty() && b.out.datagrams.is_empty()) {
        for (from, to) in [(&mut *a, &mut *b)] {
            for (address, bytes) in std::mem::take(&mut from.out.datagrams) {
                assert_eq!(address, to.address);
                to.engine.inbound(&bytes, from.address, Instant::now(), &mut to.out);
            }
            for (_, bytes) in std::mem::take(&mut to.out.datagrams) {
                from.engine.inbound(&bytes, to.address, Instant::now(), &mut from.out);
            }
        }
    }
}

/// An IPv4 packet with nothing but addresses and a payload.
fn ipv4(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    let length = u16::try_from(20 + payload.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[12..16].copy_from_slice(&source.parse::<Ipv4Addr>().unwrap().octets());
    packet[16..20].copy_from_slice(&destination.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet[8..24].copy_from_slice(&source.parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet[24..40].copy_from_slice(&destination.parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend_from_slice(payload);
    packet
}

fn client_and_server() -> (Side, Side) {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    client.add(server.key, 0, "0.0.0.0/0", Some(server.address));
    server.add(client.key, 7, "10.5.0.2/32", None);
    (client, server)
}

#[test]
fn the_first_packet_makes_the_handshake_and_arrives() {
    let (mut client, mut server) = client_and_server();
    let request = ipv4("10.5.0.2", "10.96.0.10", b"who is helloworld");
    client.send(0, &request);
    exchange(&mut client, &mut server);
    assert_eq!(server.received(), [(LinkId(7), request)]);

    let answer = ipv4("10.96.0.10", "10.5.0.2", b"me");
    server.send(7, &answer);
    exchange(&mut client, &mut server);
    assert_eq!(client.received(), [(LinkId(0), answer)]);

    let stats = server.engine.stats(&client.key).unwrap();
    assert_eq!(stats.endpoint, Some(client.address));
    assert!(stats.last_handshake.is_some() && stats.received_bytes > 0 && stats.sent_bytes > 0);
}

#[test]
fn ipv6_packets_of_every_length_arrive_whole() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    client.add(server.key, 0, "::/0", Some(server.address));
    server.add(client.key, 0, "fd05::2/128", None);
    for length in 0..64 {
        let packet = ipv6("fd05::2", "fd96::10", &vec![length; usize::from(length)]);
        client.send(0, &packet);
        exchange(&mut client, &mut server);
        assert_eq!(server.received(), [(LinkId(0), packet)], "{length} bytes");
    }
}

#[test]
fn datagrams_are_padded_to_16_bytes_up_to_the_mtu() {
    let (mut client, mut server) = client_and_server();
    client.engine.initiate(&server.key, &mut client.out);
    exchange(&mut client, &mut server);
    for (payload, expected) in [(1, 32), (12, 32), (13, 48), (1399, 1420), (1400, 1420)] {
        client.send(0, &ipv4("10.5.0.2", "10.96.0.10", &vec![0; payload]));
        let (_, datagram) = client.out.datagrams.pop().unwrap();
        assert_eq!(datagram.len(), expected + OVERHEAD, "payload of {payload}");
    }
}

#[test]
fn sources_and_destinations_outside_the_allowed_ips_are_dropped() {
    let (mut client, mut server) = client_and_server();
    client.send(0, &ipv4("10.5.0.99", "10.96.0.10", b"spoofed"));
    exchange(&mut client, &mut server);
    assert_eq!(server.received(), []);

    server.send(7, &ipv4("10.96.0.10", "10.5.0.99", b"not for this peer"));
    assert!(server.out.datagrams.is_empty());
    server.send(8, &ipv4("10.96.0.10", "10.5.0.2", b"from another link"));
    assert!(server.out.datagrams.is_empty());
}

#[test]
fn two_peers_on_one_socket_stay_on_their_links() {
    let (mut a, mut server) = client_and_server();
    let mut b = Side::new(3);
    b.add(server.key, 0, "0.0.0.0/0", Some(server.address));
    server.add(b.key, 8, "10.5.0.3/32", None);
    let (from_a, from_b) = (ipv4("10.5.0.2", "10.96.0.10", b"a"), ipv4("10.5.0.3", "10.96.0.10", b"b"));
    a.send(0, &from_a);
    exchange(&mut a, &mut server);
    b.send(0, &from_b);
    exchange(&mut b, &mut server);
    assert_eq!(server.received(), [(LinkId(7), from_a), (LinkId(8), from_b)]);

    // b claims a's address: b's link does not route it, so it is nobody's.
    b.send(0, &ipv4("10.5.0.2", "10.96.0.10", b"b as a"));
    exchange(&mut b, &mut server);
    assert_eq!(server.received(), []);
}

#[test]
fn an_unknown_peer_gets_no_answer() {
    let (mut client, mut server) = (Side::new(1), Side::new(2));
    client.add(server.key, 0, "0.0.0.0/0", Some(server.address));
    client.engine.initiate(&server.key, &mut client.out);
    let (_, datagram) = client.out.datagrams.pop().unwrap();
    assert!(!server.engine.inbound(&datagram, client.address, Instant::now(), &mut server.out));
    assert!(server.out.datagrams.is_empty());
}

#[test]
fn a_removed_peer_is_forgotten_and_can_come_back() {
    let (mut client, mut server) = client_and_server();
    client.engine.initiate(&server.key, &mut client.out);
    exchange(&mut client, &mut server);
    assert!(server.engine.remove_peer(&client.key));
    assert!(!server.engine.remove_peer(&client.key));
    assert_eq!(server.engine.stats(&client.key), None);

    server.add(client.key, 7, "10.5.0.2/32", None);
    client.engine.initiate(&server.key, &mut client.out);
    exchange(&mut client, &mut server);
    assert!(server.engine.stats(&client.key).unwrap().last_handshake.is_some());
}

#[test]
fn removing_a_link_removes_its_peers() {
    let (client, mut server) = client_and_server();
    server.engine.remove_link(LinkId(7));
    assert_eq!(server.engine.stats(&client.key), None);
}

#[test]
fn a_peer_is_followed_to_its_new_address() {
    let (mut client, mut server) = client_and_server();
    client.engine.initiate(&server.key, &mut client.out);
    exchange(&mut client, &mut server);
    client.address.set_port(9);
    client.send(0, &ipv4("10.5.0.2", "10.96.0.10", b"moved"));
    exchange(&mut client, &mut server);
    assert_eq!(server.engine.stats(&client.key).unwrap().endpoint, Some(client.address));
}

#[test]
fn a_restarted_server_with_a_known_endpoint_calls_its_client() {
    let (mut client, mut server) = client_and_server();
    client.engine.initiate(&server.key, &mut client.out);
    exchange(&mut client, &mut server);

    let secret = server.engine.private_key.clone();
    server.engine = Engine::new(secret);
    let peer = Peer {
        public_key: client.key,
        link: LinkId(7),
        allowed_ips: vec!["10.5.0.2/32".parse().unwrap()],
        endpoint: Some(client.address),
        keepalive: Some(Duration::from_secs(25)),
    };
    server.engine.add_peer(peer, &mut server.out);
    exchange(&mut server, &mut client);
    let packet = ipv4("10.5.0.2", "10.96.0.10", b"again");
    client.send(0, &packet);
    exchange(&mut client, &mut server);
    assert_eq!(server.received(), [(LinkId(7), packet)]);
}

/// A handshake that is answered with a cookie proves nothing, wherever in the engine it turns out to be one too many.
#[test]
fn a_flood_of_handshakes_moves_no_peer() {
    for strangers in 0..=1 {
        let (mut client, mut server) = client_and_server();
        server.add(client.key, 7, "10.5.0.2/32", Some(client.address));
        server.engine.initiate(&client.key, &mut server.out);
        let (_, initiation) = server.out.datagrams.pop().unwrap();
        client.engine.inbound(&initiation, server.address, Instant::now(), &mut client.out);
        let (_, response) = client.out.datagrams.pop().unwrap();
        server.engine.inbound(&response, client.address, Instant::now(), &mut server.out);
        exchange(&mut client, &mut server);
        let before = server.engine.stats(&client.key).unwrap();

        let stranger: SocketAddr = (Ipv4Addr::LOCALHOST, 3).into();
        for _ in 0..strangers {
            // Of an unknown peer: it is counted only where it comes in.
            let mut unknown = Side::new(4);
            unknown.add(server.key, 0, "0.0.0.0/0", Some(server.address));
            unknown.engine.initiate(&server.key, &mut unknown.out);
            let (_, initiation) = unknown.out.datagrams.pop().unwrap();
            server.engine.inbound(&initiation, stranger, Instant::now(), &mut server.out);
        }
        for _ in 0..HANDSHAKES_PER_SECOND {
            server.engine.inbound(&response, stranger, Instant::now(), &mut server.out);
        }
        assert!(!server.out.datagrams.is_empty(), "too many handshakes");
        assert!(server.out.datagrams.iter().all(|(to, reply)| *to == stranger && is_cookie_reply(reply)));
        let after = server.engine.stats(&client.key).unwrap();
        assert_eq!((after.endpoint, after.received_bytes), (before.endpoint, before.received_bytes));
    }
}

#[test]
fn garbage_is_ignored() {
    let (mut client, mut server) = client_and_server();
    client.engine.initiate(&server.key, &mut client.out);
    let (_, good) = client.out.datagrams.pop().unwrap();
    for length in 0..good.len() {
        server.engine.inbound(&good[..length], client.address, Instant::now(), &mut server.out);
    }
    // All but the last field, which counts only under load (WireGuard paper, 5.4.4).
    for position in 0..good.len() - 16 {
        let mut broken = good.clone();
        broken[position] ^= 1;
        server.engine.inbound(&broken, client.address, Instant::now(), &mut server.out);
    }
    for kind in 0..=5 {
        server.engine.inbound(
            &[kind, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0],
            client.address,
            Instant::now(),
            &mut server.out,
        );
    }
    server.send(7, &[]);
    server.send(7, &[0x45]);
    server.send(7, &[0x95; 60]);
    assert!(server.out.datagrams.is_empty() && server.out.packets.is_empty());
}
