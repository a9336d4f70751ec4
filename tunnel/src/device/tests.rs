use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::*;

/// A TUN that needs no privilege: a packet socket pair, which keeps message boundaries as TUN does.
fn tun() -> (Tun, OwnedFd) {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    (Tun::from_fd(ours), theirs)
}

fn loopback() -> Binding {
    Binding::Server((Ipv4Addr::LOCALHOST, 0).into())
}

#[tokio::test]
async fn two_devices_shake_hands_on_loopback() {
    let (a, b) = (PrivateKey::generate(), PrivateKey::generate());
    let (key_a, key_b) = (a.public_key(), b.public_key());
    let server = Device::start(b, loopback()).unwrap();
    let endpoint = (Ipv4Addr::LOCALHOST, server.local_port()).into();
    let client = Device::start(a, Binding::Client(endpoint)).unwrap();
    let (tun_a, _keep_a) = tun();
    let (tun_b, _keep_b) = tun();
    let link = server.add_link(tun_b, 1420).unwrap();
    let peer = Peer { public_key: key_a, link, allowed_ips: vec![], endpoint: None, keepalive: None };
    server.add_peer(peer.clone());
    let link = client.add_link(tun_a, 1420).unwrap();
    client.add_peer(Peer { public_key: key_b, link, endpoint: Some(endpoint), ..peer });

    client.handshake(&key_b, Duration::from_secs(5)).await.unwrap();
    assert!(client.stats(&key_b).unwrap().last_handshake.is_some());
    assert!(server.stats(&key_a).unwrap().last_received.is_some());
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_endpoint() {
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = silent.local_addr().unwrap();
    let device = Device::start(PrivateKey::generate(), Binding::Client(endpoint)).unwrap();
    let link = device.add_link(tun().0, 1420).unwrap();
    let public_key = PrivateKey::generate().public_key();
    device.add_peer(Peer { public_key, link, allowed_ips: vec![], endpoint: Some(endpoint), keepalive: None });
    let error = device.handshake(&public_key, Duration::from_millis(300)).await.unwrap_err();
    assert!(error.to_string().contains(&endpoint.to_string()), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = Device::start(PrivateKey::generate(), Binding::Server(address)).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// A socket pair has no virtio headers: packets go through one by one.
#[test]
fn packets_cross_between_plain_interfaces() {
    let (a, b) = (PrivateKey::generate(), PrivateKey::generate());
    let (key_a, key_b) = (a.public_key(), b.public_key());
    let server = Device::start(b, loopback()).unwrap();
    let endpoint = (Ipv4Addr::LOCALHOST, server.local_port()).into();
    let client = Device::start(a, Binding::Client(endpoint)).unwrap();
    let ((tun_a, end_a), (tun_b, end_b)) = (tun(), tun());
    let link = server.add_link(tun_b, 1420).unwrap();
    let allowed_ips = vec!["10.5.0.0/16".parse().unwrap()];
    server.add_peer(Peer {
        public_key: key_a,
        link,
        allowed_ips: allowed_ips.clone(),
        endpoint: None,
        keepalive: None,
    });
    let link = client.add_link(tun_a, 1420).unwrap();
    client.add_peer(Peer { public_key: key_b, link, allowed_ips, endpoint: Some(endpoint), keepalive: None });

    let mut sent = Vec::new();
    for length in [24, 1420, 1420, 500] {
        let mut packet = vec![7; usize::from(length)];
        packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 5, 0, 1, 10, 5, 0, 2]);
        packet[2..4].copy_from_slice(&u16::to_be_bytes(length));
        nix::unistd::write(&end_a, &packet).unwrap();
        sent.push(packet);
    }
    for packet in sent {
        let mut ready = [PollFd::new(end_b.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(5000_u16)), Ok(1));
        let mut buffer = [0; 2000];
        let length = nix::unistd::read(&end_b, &mut buffer).unwrap();
        assert!(buffer[..length] == packet, "a packet of {} bytes arrived as {length}", packet.len());
    }
}
