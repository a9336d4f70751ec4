//! A node in a network namespace: an interface to clients, one to pods, and an address of its own.

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use sinfonia_gateway::nft::{Access, Table};
use sinfonia_tunnel::{HostInterface, Tun};

use super::packet::udp;

/// The node's own address.
pub(crate) const NODE: &str = "192.0.2.1";
/// The node's address towards pods.
pub(crate) const PODS_GATEWAY: &str = "10.244.0.1";
/// Longest wait for a packet that should come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

const CLIENTS: &str = "sinfonia";
const PODS: &str = "pods";
const INSIDE: &str = "SINFONIA_TEST_INSIDE";

/// A pair that every network here lets through, to see that what should not come has not.
const PROBE: (&str, &str) = ("10.5.255.254", "10.244.255.254");

/// Packets between pods here, which no rule is for.
const MARKER: (&str, &str) = ("10.244.255.252", "10.244.255.253");

/// True in a network namespace of the test's own; false outside, after the test has run there.
pub(crate) fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let Ok(status) = command.status() else {
        panic!("the program unshare of util-linux is needed");
    };
    assert!(status.success(), "{test} failed in its namespace");
    false
}

/// The table under test.
pub(crate) fn table() -> Table {
    Table::new(CLIENTS, &["10.5.0.0/16".parse().unwrap()])
}

/// Both ends of the node, in the test's hands.
pub(crate) struct Network {
    clients: Tun,
    pods: Tun,
}

impl Network {
    /// Makes it, with this access from the beginning.
    pub(crate) fn new(access: &Access) -> Self {
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
        }
        // The marker leaves by the interface that it came in by.
        for interface in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/send_redirects"), "0").unwrap();
        }
        table().replace(&with_probe(access)).unwrap();
        let network = Self::open();
        in_runtime(async {
            for (name, address) in [("lo", NODE), (PODS, PODS_GATEWAY)] {
                give_address(name, address.parse().unwrap()).await;
            }
        });
        network
    }

    /// Takes hold of what another has left.
    pub(crate) fn reopen() -> Self {
        let interface = |name: &str| HostInterface { name: name.into(), mtu: 1420, routes: Vec::new() };
        in_runtime(async {
            Self { clients: interface(CLIENTS).open().await.unwrap(), pods: interface(PODS).open().await.unwrap() }
        })
    }

    /// Removes the clients' interface, as when the gateway is uninstalled.
    pub(crate) fn remove_clients() {
        let interface = HostInterface { name: CLIENTS.into(), mtu: 1420, routes: Vec::new() };
        in_runtime(interface.remove()).unwrap();
        assert_eq!(nix::net::if_::if_nametoindex(CLIENTS), Err(nix::errno::Errno::ENODEV));
        // Nothing to remove is no reason to fail.
        in_runtime(interface.remove()).unwrap();
    }

    fn open() -> Self {
        let interface = |name: &str, routes: &[&str]| HostInterface {
            name: name.into(),
            mtu: 1420,
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
        };
        let clients = interface(CLIENTS, &["10.5.0.0/16"]);
        let pods = interface(PODS, &["10.244.0.0/16", "0.0.0.0/0", "fd01::/64"]);
        in_runtime(async {
            let tuns = (clients.open().await.unwrap(), pods.open().await.unwrap());
            clients.configure().await.unwrap();
            pods.configure().await.unwrap();
            // What is there already is no reason to fail.
            clients.configure().await.unwrap();
            Self { clients: tuns.0, pods: tuns.1 }
        })
    }

    /// Whether a client's packet comes out at the pods.
    pub(crate) fn passes_from_client(&self, packet: &[u8]) -> bool {
        self.send_as_client(packet);
        self.send_as_client(&udp(PROBE.0, PROBE.1, 9, 9));
        let seen = self.next_at_pods();
        let is_probe = seen == forwarded(&udp(PROBE.0, PROBE.1, 9, 9));
        if !is_probe {
            assert_eq!(seen, forwarded(packet));
            self.next_at_pods();
        }
        !is_probe
    }

    /// Whether a pod's packet comes out at the clients.
    pub(crate) fn passes_from_pod(&self, packet: &[u8]) -> bool {
        // The probe has to be an answer.
        self.send_as_client(&udp(PROBE.0, PROBE.1, 9, 9));
        self.next_at_pods();
        self.send_as_pod(packet);
        self.send_as_pod(&udp(PROBE.1, PROBE.0, 9, 9));
        let seen = self.next_at_clients();
        let is_probe = seen == forwarded(&udp(PROBE.1, PROBE.0, 9, 9));
        if !is_probe {
            assert_eq!(seen, forwarded(packet));
            self.next_at_clients();
        }
        !is_probe
    }

    /// Whether anything of clients passes: this packet of theirs, or this answer. Other than the probe, the marker by which
    /// the test knows is no client's.
    pub(crate) fn is_open(&self, call: &[u8], answer: &[u8]) -> bool {
        self.send_as_client(call);
        self.send_as_pod(answer);
        self.send_as_pod(&udp(MARKER.0, MARKER.1, 9, 9));
        let seen = self.next_at_pods();
        let is_called = seen != forwarded(&udp(MARKER.0, MARKER.1, 9, 9));
        if is_called {
            assert_eq!(seen, forwarded(call));
            self.next_at_pods();
        }
        is_called | try_receive(&self.clients).is_some()
    }

    pub(crate) fn send_as_client(&self, packet: &[u8]) {
        send(&self.clients, packet);
    }

    pub(crate) fn send_as_pod(&self, packet: &[u8]) {
        send(&self.pods, packet);
    }

    pub(crate) fn next_at_pods(&self) -> Vec<u8> {
        receive(&self.pods)
    }

    pub(crate) fn next_at_clients(&self) -> Vec<u8> {
        receive(&self.clients)
    }
}

/// This access and that of the packets by which the network sees that others have not come.
pub(crate) fn with_probe(access: &Access) -> Access {
    let mut access = access.clone();
    access.pairs.insert((PROBE.0.parse().unwrap(), PROBE.1.parse().unwrap()));
    access
}

/// A packet after one hop: its time to live is one less, and so its checksum one more in the high byte.
fn forwarded(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    packet[8] -= 1;
    let sum = u32::from(u16::from_be_bytes([packet[10], packet[11]])) + 0x100;
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&folded.to_be_bytes());
    packet
}

/// Before each packet on a TUN interface (`struct virtio_net_hdr`); all zero if there is nothing to say.
const VIRTIO_HEADER: usize = 10;

fn send(tun: &Tun, packet: &[u8]) {
    write(tun.as_fd(), &[&[0; VIRTIO_HEADER], packet].concat()).unwrap();
}

/// The next packet of ours: the kernel has things to say itself, such as neighbour solicitations.
fn receive(tun: &Tun) -> Vec<u8> {
    loop {
        if let Some(packet) = try_receive(tun) {
            return packet;
        }
        let mut descriptors = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(PATIENCE).unwrap();
        assert!(poll(&mut descriptors, limit).unwrap() > 0, "no packet came within {PATIENCE:?}");
    }
}

/// The same, if it is there already.
fn try_receive(tun: &Tun) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    loop {
        match read(tun.as_fd(), &mut buffer) {
            Ok(length) if is_ours(&buffer[VIRTIO_HEADER..length]) => {
                return Some(buffer[VIRTIO_HEADER..length].to_vec());
            }
            Ok(_) => {}
            Err(Errno::EAGAIN) => return None,
            Err(errno) => panic!("reading packets: {errno}"),
        }
    }
}

fn is_ours(packet: &[u8]) -> bool {
    const UDP: u8 = 17;
    const ICMP: u8 = 1;
    match packet[0] >> 4 {
        4 => matches!(packet[9], UDP | ICMP),
        _ => packet[6] == UDP,
    }
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn give_address(interface: &str, address: IpAddr) {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    handle.address().add(index, address, 32).execute().await.unwrap();
    handle.link().set(rtnetlink::LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
}
