use std::time::{Duration, Instant, SystemTime};

use netlink_bindings::wireguard::{KernelTimespec, OpGetDeviceDump, OpSetDeviceDo};

use super::*;

const NAME: &std::ffi::CStr = c"wg-test";

fn key(byte: u8) -> PublicKey {
    PublicKey::from([byte; 32])
}

#[test]
fn a_peer_as_the_kernel_reads_it() {
    let peer = Peer {
        public_key: key(1),
        link: LinkId(0),
        allowed_ips: vec!["10.5.0.2/32".parse().unwrap(), "fd05::9/64".parse().unwrap()],
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        keepalive: Some(Duration::from_millis(100)),
    };
    let message = message::add_peer(NAME, &peer);
    let device = OpSetDeviceDo::decode_request(&message);
    assert_eq!(device.get_ifname().unwrap(), NAME);
    let peers: Vec<_> = device.get_peers().unwrap().collect();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].get_public_key().unwrap(), key(1).as_bytes());
    assert_eq!(peers[0].get_endpoint().ok(), peer.endpoint);
    assert_eq!(peers[0].get_persistent_keepalive_interval().unwrap(), 1, "at least a second");
    let allowed: Vec<_> = peers[0]
        .get_allowedips()
        .unwrap()
        .map(|network| format!("{}/{}", network.get_ipaddr().unwrap(), network.get_cidr_mask().unwrap()))
        .collect();
    assert_eq!(allowed, ["10.5.0.2/32", "fd05::/64"]);
}

#[test]
fn no_keepalive_turns_it_off_and_an_unknown_endpoint_stays() {
    let peer = Peer { public_key: key(1), link: LinkId(0), allowed_ips: vec![], endpoint: None, keepalive: None };
    let message = message::add_peer(NAME, &peer);
    let entry = OpSetDeviceDo::decode_request(&message).get_peers().unwrap().next().unwrap();
    assert_eq!(entry.get_persistent_keepalive_interval().unwrap(), 0);
    assert!(entry.get_endpoint().is_err());
}

#[test]
fn key_and_port_are_in_one_message() {
    let private = PrivateKey::generate();
    let message = message::set_device(NAME, &private, 51820);
    let device = OpSetDeviceDo::decode_request(&message);
    assert_eq!(device.get_private_key().unwrap(), private.secret().as_bytes());
    assert_eq!(device.get_listen_port().unwrap(), 51820);
}

#[test]
fn stats_of_a_peer_in_two_messages() {
    let age = Duration::from_secs(100);
    let handshake = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - age;
    let time = KernelTimespec { sec: handshake.as_secs(), nsec: handshake.subsec_nanos().into() };
    let mut first = Vec::new();
    OpGetDeviceDump::encode_request(&mut first)
        .array_peers()
        .entry_nested()
        .push_public_key(key(1).as_bytes())
        .push_last_handshake_time(KernelTimespec { sec: 0, nsec: 0 })
        .end_nested()
        .entry_nested()
        .push_public_key(key(2).as_bytes())
        .push_endpoint("[2001:db8::1]:51820".parse().unwrap())
        .push_last_handshake_time(time)
        .push_rx_bytes(1000)
        .push_tx_bytes(2000);
    let mut second = Vec::new();
    OpGetDeviceDump::encode_request(&mut second).array_peers().entry_nested().push_public_key(key(2).as_bytes());
    let mut stats = BTreeMap::new();
    message::collect_stats(&first, &mut stats);
    message::collect_stats(&second, &mut stats);
    assert_eq!(stats.len(), 2);
    assert_eq!(stats[&key(1)].last_handshake, None);
    let peer = stats[&key(2)];
    assert_eq!((peer.received_bytes, peer.sent_bytes), (1000, 2000));
    assert_eq!(peer.endpoint, Some("[2001:db8::1]:51820".parse().unwrap()));
    let since = Instant::now().duration_since(peer.last_handshake.unwrap());
    assert!(since >= age && since < age + Duration::from_secs(60), "{since:?}");
}

#[tokio::test]
async fn bad_names_are_refused_before_the_kernel_is_asked() {
    for name in ["", "a-name-of-16-chrs", "nul\0"] {
        let error = KernelDevice::open(name, &PrivateKey::generate(), 0).await.unwrap_err();
        assert!(matches!(error, KernelError::Name(_)), "{error}");
    }
}
