//! Which packets of clients pass, as data.
//!
//! Rules see the addresses of pods, not of services: kube-proxy has translated them before. What comes from the
//! tunnel interface has a source that the tunnel has checked.

use std::ffi::CStr;
use std::net::IpAddr;

use ipnet::IpNet;

use super::expression::{ESTABLISHED, End, Expression, Family, Meta, RELATED};

/// The gateway's table, of family `inet`.
pub(super) const TABLE: &str = "sinfonia-gateway";

const FROM_CLIENTS: &str = "from-clients";
const TO_CLIENTS: &str = "to-clients";

const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS: u16 = 53;
/// Longest name of an interface with its zero byte (`IFNAMSIZ`).
const NAME_SIZE: usize = 16;

/// A set of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: Key,
}

/// What the elements of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// An address of this family.
    Address(Family),
    /// Two of them.
    Pair(Family),
    /// The number of a family. Such elements vanish after some time.
    Family,
}

/// Sets of (client, pod) pairs: who may talk to whom.
pub(super) const PAIRS: [Set; 2] =
    [Set { name: "pairs4", key: Key::Pair(Family::V4) }, Set { name: "pairs6", key: Key::Pair(Family::V6) }];
/// Sets of resolvers' pods: all clients may ask them.
pub(super) const RESOLVERS: [Set; 2] = [
    Set { name: "resolvers4", key: Key::Address(Family::V4) },
    Set { name: "resolvers6", key: Key::Address(Family::V6) },
];
/// Sets of pods on other nodes, which know no way back to a client.
pub(super) const REMOTE: [Set; 2] =
    [Set { name: "remote4", key: Key::Address(Family::V4) }, Set { name: "remote6", key: Key::Address(Family::V6) }];
/// The set of families that packets may be of. Without a gateway that renews it, it is soon empty.
pub(super) const ALIVE: Set = Set { name: "alive", key: Key::Family };

/// A chain; one with a hook is asked by the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Expression>>,
}

/// Where in a packet's way a chain stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) kind: &'static CStr,
    /// `NF_INET_*`.
    pub(super) number: u32,
    /// Lower ones come first.
    pub(super) priority: i32,
}

impl Hook {
    /// Before the chains of kube-proxy and others, which stand at 0: what they accept is not looked at again.
    const fn filter(number: u32) -> Self {
        Self { kind: c"filter", number, priority: -10 }
    }
}

const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
/// Just before kube-proxy's masquerading at 100 (`NF_IP_PRI_NAT_SRC`).
const SOURCE_NAT: i32 = 99;

/// The chains for clients behind `interface` with addresses from `networks`; chains come before those that go to them.
/// `tunnels` is the UDP port of tunnels that the gateway does not end itself.
pub(super) fn chains(interface: &str, networks: &[IpNet], tunnels: Option<u16>) -> Vec<Chain> {
    use Expression::{Accept, Drop, GoTo};
    let from = on(Meta::InputInterface, interface);
    let to = on(Meta::OutputInterface, interface);
    let is_alive = [Expression::Meta(Meta::Family), Expression::IsIn(ALIVE.name)];
    let forward = vec![
        rule([&from[..], &is_alive, &[GoTo(FROM_CLIENTS)]]),
        rule([&from[..], &[Drop]]),
        rule([&to[..], &is_alive, &[GoTo(TO_CLIENTS)]]),
        rule([&to[..], &[Drop]]),
    ];
    // The node itself: API server, kubelet, node ports of the host network.
    let mut input = vec![rule([&from[..], &[Drop]])];
    let mut output =
        vec![rule([&to[..], &Expression::state_in(ESTABLISHED | RELATED), &[Accept]]), rule([&to[..], &[Drop]])];
    if let Some(port) = tunnels {
        // The kernel would answer, and call, the clients of a gateway that is on another node by now.
        for (chain, end) in [(&mut input, End::Destination), (&mut output, End::Source)] {
            let is_tunnel = on_port(UDP, end, port);
            chain.push(rule([&is_tunnel[..], &is_alive, &[Accept]]));
            chain.push(rule([&is_tunnel[..], &[Drop]]));
        }
    }
    vec![
        Chain { name: FROM_CLIENTS, hook: None, rules: from_clients(&to) },
        Chain { name: TO_CLIENTS, hook: None, rules: to_clients() },
        Chain { name: "forward", hook: Some(Hook::filter(FORWARD)), rules: forward },
        Chain { name: "input", hook: Some(Hook::filter(INPUT)), rules: input },
        Chain { name: "output", hook: Some(Hook::filter(OUTPUT)), rules: output },
        Chain {
            name: "postrouting",
            hook: Some(Hook { kind: c"nat", number: POSTROUTING, priority: SOURCE_NAT }),
            rules: networks.iter().map(|network| masquerade(*network)).collect(),
        },
    ]
}

/// Every packet must be of a pair, also of connections that exist: a pod's address may be another's by now.
fn from_clients(to_tunnel: &[Expression]) -> Vec<Vec<Expression>> {
    let mut rules = vec![rule([to_tunnel, &[Expression::Drop]])];
    for (family, (pairs, resolvers)) in Family::BOTH.into_iter().zip(PAIRS.into_iter().zip(RESOLVERS)) {
        rules.push(rule([
            &Expression::is_family(family)[..],
            &[
                Expression::Address(family, End::Source),
                Expression::SecondAddress(family, End::Destination),
                Expression::IsIn(pairs.name),
                Expression::Accept,
            ],
        ]));
        for protocol in [UDP, TCP] {
            rules.push(rule([
                &Expression::is_family(family)[..],
                &on_port(protocol, End::Destination, DNS),
                &[Expression::Address(family, End::Destination), Expression::IsIn(resolvers.name), Expression::Accept],
            ]));
        }
    }
    rules.push(vec![Expression::Drop]);
    rules
}

/// Only answers, and only of those whom the client may talk to; errors of the network on the way too.
fn to_clients() -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    for (family, (pairs, resolvers)) in Family::BOTH.into_iter().zip(PAIRS.into_iter().zip(RESOLVERS)) {
        let addresses = [
            [Expression::Address(family, End::Destination), Expression::SecondAddress(family, End::Source)].to_vec(),
            [Expression::Address(family, End::Source)].to_vec(),
        ];
        for (loads, set) in addresses.iter().zip([pairs, resolvers]) {
            rules.push(rule([
                &Expression::is_family(family)[..],
                loads,
                &[Expression::IsIn(set.name)],
                &Expression::state_in(ESTABLISHED),
                &[Expression::Accept],
            ]));
        }
    }
    rules.push(rule([&Expression::state_in(RELATED)[..], &[Expression::Accept]]));
    rules.push(vec![Expression::Drop]);
    rules
}

fn masquerade(network: IpNet) -> Vec<Expression> {
    let (family, remote) = match network {
        IpNet::V4(_) => (Family::V4, REMOTE[0]),
        IpNet::V6(_) => (Family::V6, REMOTE[1]),
    };
    rule([
        &Expression::is_family(family)[..],
        &[
            Expression::Address(family, End::Source),
            Expression::Mask(octets(network.netmask())),
            Expression::Equals(octets(network.network())),
        ],
        &[Expression::Address(family, End::Destination), Expression::IsIn(remote.name)],
        &[Expression::Masquerade],
    ])
}

fn on_port(protocol: u8, end: End, port: u16) -> [Expression; 4] {
    [
        Expression::Meta(Meta::Protocol),
        Expression::Equals(vec![protocol]),
        Expression::Port(end),
        Expression::Equals(port.to_be_bytes().into()),
    ]
}

fn on(meta: Meta, interface: &str) -> [Expression; 2] {
    let mut name = interface.as_bytes().to_vec();
    name.resize(NAME_SIZE, 0);
    [Expression::Meta(meta), Expression::Equals(name)]
}

fn rule<const N: usize>(parts: [&[Expression]; N]) -> Vec<Expression> {
    parts.concat()
}

/// The bytes of an address as they stand in packets.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}
