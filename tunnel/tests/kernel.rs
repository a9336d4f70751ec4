//! WireGuard of the kernel and of this crate, talking to each other. Needs root and a kernel that has it:
//! tests/lab/qemu-kernel.sh runs this in a virtual machine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use sinfonia_tunnel::{
    Binding, Device, HostInterface, HostInterfaceError, KernelDevice, KernelError, Namespace, NamespaceOptions,
    NetworkPlan, Peer, PrivateKey, SocketKind, Step,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const LIMIT: Duration = Duration::from_secs(30);
const INTERFACE: &str = "wg-kernel";

/// The kernel's side in this namespace, ours in another.
struct Pair {
    kernel: KernelDevice,
    kernel_key: PrivateKey,
    kernel_port: u16,
    device: Device,
    device_peer: Peer,
    namespace: Namespace,
}

impl Pair {
    /// Both sides are up; `device_calls` says which calls the other.
    async fn new(port: u16, device_calls: bool) -> Self {
        ip("link set lo up");
        let (kernel_key, device_key) = (PrivateKey::generate(), PrivateKey::generate());
        let kernel = KernelDevice::open(INTERFACE, &kernel_key, port).await.unwrap();
        let namespace = namespace().await;
        let device = Device::start(device_key.clone(), Binding::Server("127.0.0.1:0".parse().unwrap())).unwrap();
        let link = device.add_link(namespace.take_tun().unwrap(), 1420).unwrap();
        let kernel_address: SocketAddr = ([127, 0, 0, 1], port).into();
        device.add_peer(Peer {
            public_key: kernel_key.public_key(),
            link,
            allowed_ips: vec!["10.5.0.1/32".parse().unwrap(), "fd05::1/128".parse().unwrap()],
            endpoint: device_calls.then_some(kernel_address),
            keepalive: None,
        });
        let device_peer = Peer {
            public_key: device_key.public_key(),
            link: kernel.link(),
            allowed_ips: vec!["10.5.0.2/32".parse().unwrap(), "fd05::2/128".parse().unwrap()],
            endpoint: (!device_calls).then(|| ([127, 0, 0, 1], device.local_port()).into()),
            keepalive: (!device_calls).then_some(Duration::from_secs(25)),
        };
        kernel.add_peer(&device_peer).unwrap();
        ip(&format!("address add 10.5.0.1/24 dev {INTERFACE}"));
        ip(&format!("-6 address add fd05::1/64 dev {INTERFACE}"));
        ip(&format!("link set {INTERFACE} mtu 1420 up"));
        Self { kernel, kernel_key, kernel_port: port, device, device_peer, namespace }
    }

    /// Connects from our side to the kernel's, and moves bytes both ways.
    async fn move_bytes(&self, kind: SocketKind, address: &str) {
        let listener = TcpListener::bind(SocketAddr::new(address.parse().unwrap(), 0)).await.unwrap();
        let socket = self.namespace.socket(kind).await.unwrap();
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        let (there, here) =
            tokio::join!(socket.connect(listener.local_addr().unwrap()), async { listener.accept().await });
        let (mut there, (mut here, _)) = (there.unwrap(), here.unwrap());
        one_way(&mut there, &mut here).await;
        one_way(&mut here, &mut there).await;
    }

    async fn remove(self) {
        self.namespace.close().await;
        self.kernel.remove().await.unwrap();
    }
}

async fn namespace() -> Namespace {
    let helper = Some(env!("CARGO_BIN_EXE_sinfonia-netns").into());
    let namespace = Namespace::create(NamespaceOptions { helper, ..NamespaceOptions::default() }).await.unwrap();
    let steps = vec![
        Step::LoopbackUp,
        Step::Mtu(1420),
        Step::Address("10.5.0.2/24".parse().unwrap()),
        Step::Address("fd05::2/64".parse().unwrap()),
        Step::LinkUp,
    ];
    namespace.configure(&NetworkPlan { steps }).await.unwrap();
    namespace
}

async fn one_way(from: &mut TcpStream, to: &mut TcpStream) {
    let sent: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut got = vec![0; sent.len()];
    let both = async { tokio::join!(from.write_all(&sent), to.read_exact(&mut got)) };
    let (written, read) = tokio::time::timeout(LIMIT, both).await.unwrap();
    written.unwrap();
    read.unwrap();
    assert!(got == sent, "what arrived is not what was sent");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

#[tokio::test]
#[ignore = "needs WireGuard in the kernel: tests/lab/qemu-kernel.sh has one"]
async fn the_kernel_has_wireguard() {
    KernelDevice::probe().await.unwrap();
}

#[tokio::test]
#[ignore = "needs WireGuard in the kernel: tests/lab/qemu-kernel.sh has one"]
async fn data_crosses_both_ways_whoever_calls() {
    for (port, device_calls) in [(51820, true), (51821, false)] {
        let pair = Pair::new(port, device_calls).await;
        if device_calls {
            pair.device.handshake(&pair.kernel_key.public_key(), LIMIT).await.unwrap();
        }
        pair.move_bytes(SocketKind::TcpV4, "10.5.0.1").await;
        pair.move_bytes(SocketKind::TcpV6, "fd05::1").await;

        let stats = pair.kernel.stats().unwrap();
        assert_eq!(stats.len(), 1);
        let stats = stats[&pair.device_peer.public_key];
        assert!(stats.received_bytes > 4_000_000 && stats.sent_bytes > 4_000_000, "{stats:?}");
        assert_eq!(stats.endpoint, Some(([127, 0, 0, 1], pair.device.local_port()).into()));
        let since = Instant::now().duration_since(stats.last_handshake.unwrap());
        assert!(since < Duration::from_secs(120), "{since:?}");
        let ours = pair.device.stats(&pair.kernel_key.public_key()).unwrap();
        assert_eq!(ours.endpoint, Some(([127, 0, 0, 1], port).into()));
        assert!(ours.received_bytes > 4_000_000 && ours.last_handshake.is_some(), "{ours:?}");
        pair.remove().await;
    }
}

#[tokio::test]
#[ignore = "needs WireGuard in the kernel: tests/lab/qemu-kernel.sh has one"]
async fn an_interface_is_taken_over_with_its_peers() {
    let pair = Pair::new(51822, true).await;
    pair.move_bytes(SocketKind::TcpV4, "10.5.0.1").await;
    let before = pair.kernel.stats().unwrap();
    let again = KernelDevice::open(INTERFACE, &pair.kernel_key, pair.kernel_port).await.unwrap();
    assert_eq!(again.stats().unwrap().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    pair.move_bytes(SocketKind::TcpV4, "10.5.0.1").await;
    let (old, new) = (before[&pair.device_peer.public_key], again.stats().unwrap()[&pair.device_peer.public_key]);
    assert!(new.received_bytes > old.received_bytes + 2_000_000, "{old:?} {new:?}");

    again.remove_peer(&pair.device_peer.public_key).unwrap();
    again.remove_peer(&pair.device_peer.public_key).unwrap();
    assert!(again.stats().unwrap().is_empty());
    pair.remove().await;
}

#[tokio::test]
#[ignore = "needs WireGuard in the kernel: tests/lab/qemu-kernel.sh has one"]
async fn a_thousand_peers_come_and_go() {
    let device = KernelDevice::open("wg-many", &PrivateKey::generate(), 51823).await.unwrap();
    let peers: Vec<Peer> = (0..1000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let allowed_ips = vec![format!("10.5.{high}.{low}/32").parse().unwrap()];
            let public_key = PrivateKey::generate().public_key();
            Peer { public_key, link: device.link(), allowed_ips, endpoint: None, keepalive: None }
        })
        .collect();
    for peer in &peers {
        device.add_peer(peer).unwrap();
    }
    let stats = device.stats().unwrap();
    assert_eq!(stats.len(), 1000);
    assert!(peers.iter().all(|peer| stats[&peer.public_key].last_handshake.is_none()));
    for peer in &peers[1..] {
        device.remove_peer(&peer.public_key).unwrap();
    }
    assert_eq!(device.stats().unwrap().keys().collect::<Vec<_>>(), [&peers[0].public_key]);
    device.remove().await.unwrap();
}

#[tokio::test]
#[ignore = "needs WireGuard in the kernel: tests/lab/qemu-kernel.sh has one"]
async fn what_is_taken_is_named() {
    ip("link add wg-dummy type veth peer name wg-other");
    let error = KernelDevice::open("wg-dummy", &PrivateKey::generate(), 51824).await.unwrap_err();
    assert!(matches!(&error, KernelError::Taken(name) if name == "wg-dummy"), "{error}");
    ip("link delete wg-dummy");

    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let device = KernelDevice::open("wg-port", &PrivateKey::generate(), port).await.unwrap();
    // The kernel opens its socket when the interface goes up.
    let up = Command::new("ip").args(["link", "set", "wg-port", "up"]).status().unwrap();
    assert!(!up.success());
    device.remove().await.unwrap();
}

/// Of the userspace tunnel, but it needs root too.
#[tokio::test]
#[ignore = "needs root: tests/lab/qemu-kernel.sh has it"]
async fn a_hosts_interface_outlives_its_owner() {
    let routes = vec!["10.6.0.0/16".parse().unwrap(), "fd06::/64".parse().unwrap()];
    let interface = HostInterface { name: "wg-host".into(), mtu: 1420, routes };
    let tun = interface.open().await.unwrap();
    interface.configure().await.unwrap();
    let error = interface.open().await.unwrap_err();
    assert!(matches!(&error, HostInterfaceError::InUse(name) if name == "wg-host"), "{error}");
    drop(tun);
    interface.open().await.unwrap();
    interface.configure().await.unwrap();
    ip("link delete wg-host");
}
