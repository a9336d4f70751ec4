//! The rules in the kernel, with real packets, in a network namespace of each test's own: as a user with a user
//! namespace, as root without.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod network;
mod packet;

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use network::{NODE, Network, PODS_GATEWAY, in_namespace, table, with_probe};
use packet::{port_unreachable, udp};
use sinfonia_gateway::nft::{Access, KeptTable};

const ANNE: &str = "10.5.0.2";
const BERT: &str = "10.5.0.3";
const ANNES_POD: &str = "10.244.0.5";
const BERTS_POD: &str = "10.244.0.6";
const RESOLVER: &str = "10.244.0.9";

/// A lifetime that a test can wait for.
const SHORT: Duration = Duration::from_millis(100);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn access() -> Access {
    let pairs = [(ANNE, ANNES_POD), (BERT, BERTS_POD)].map(|(client, pod)| (address(client), address(pod)));
    Access { pairs: pairs.into(), resolvers: [address(RESOLVER)].into(), remote: BTreeSet::new() }
}

/// Tries without pause until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + network::PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {:?}: {what}", network::PATIENCE);
    }
}

/// Makes so many changes in a thread of their own, and does something again and again meanwhile.
fn while_changing(times: u32, change: impl Fn() + Sync, mut act: impl FnMut()) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..times).for_each(|_| change());
            is_done.store(true, Ordering::Release);
        });
        while !is_done.load(Ordering::Acquire) {
            act();
        }
    });
}

#[test]
fn clients_reach_their_own_pods_and_the_resolver_and_nothing_else() {
    if !in_namespace("clients_reach_their_own_pods_and_the_resolver_and_nothing_else") {
        return;
    }
    let network = Network::new(&access());
    for (from, to, port) in
        [(ANNE, ANNES_POD, 80), (ANNE, ANNES_POD, 4711), (BERT, BERTS_POD, 80), (ANNE, RESOLVER, 53)]
    {
        assert!(network.passes_from_client(&udp(from, to, 1000, port)), "{from} to {to}:{port}");
    }
    for (from, to, port) in [
        (ANNE, BERTS_POD, 80),
        (ANNE, "10.244.0.7", 80),
        (ANNE, RESOLVER, 54),
        ("10.5.0.4", ANNES_POD, 80),
        (ANNE, BERT, 80),
        (ANNE, "169.254.169.254", 80),
        (ANNE, "198.51.100.1", 53),
    ] {
        assert!(!network.passes_from_client(&udp(from, to, 1000, port)), "{from} to {to}:{port}");
    }
}

#[test]
fn the_node_itself_is_closed_to_clients() {
    if !in_namespace("the_node_itself_is_closed_to_clients") {
        return;
    }
    let network = Network::new(&access());
    let server = UdpSocket::bind((NODE, 10250)).unwrap();
    server.set_read_timeout(Some(network::PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    network.send_as_client(&udp(ANNE, NODE, 1, 10250));
    network.send_as_pod(&udp(ANNES_POD, NODE, 2, 10250));
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(from.port(), 2, "only the pod's packet comes in");
    // The other way round: what runs in the node's network does not call clients.
    assert!(server.send_to(b"hello", (ANNE, 80)).is_err());
    table().remove().unwrap();
    network.send_as_client(&udp(ANNE, NODE, 3, 10250));
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(from.port(), 3, "without the rules it would");
}

#[test]
fn nothing_stays_when_the_gateway_is_removed() {
    if !in_namespace("nothing_stays_when_the_gateway_is_removed") {
        return;
    }
    drop(Network::new(&access()));
    assert!(table().exists().unwrap());
    Network::remove_clients();
    table().remove().unwrap();
    assert!(!table().exists().unwrap());
}

#[test]
fn pods_may_answer_but_not_call() {
    if !in_namespace("pods_may_answer_but_not_call") {
        return;
    }
    let network = Network::new(&access());
    assert!(!network.passes_from_pod(&udp(ANNES_POD, ANNE, 80, 1000)), "a call");
    assert!(network.passes_from_client(&udp(ANNE, ANNES_POD, 1000, 80)));
    assert!(network.passes_from_pod(&udp(ANNES_POD, ANNE, 80, 1000)), "an answer");
    assert!(!network.passes_from_pod(&udp(ANNES_POD, ANNE, 81, 1000)), "something else");
    assert!(!network.passes_from_pod(&udp(BERTS_POD, ANNE, 80, 1000)), "somebody else");
    let refused = udp(ANNE, ANNES_POD, 1000, 80);
    assert!(network.passes_from_pod(&port_unreachable(ANNES_POD, ANNE, &refused)), "an error");
}

#[test]
fn who_loses_a_pod_loses_its_connections_to_it() {
    if !in_namespace("who_loses_a_pod_loses_its_connections_to_it") {
        return;
    }
    let network = Network::new(&access());
    let (there, back) = (udp(ANNE, ANNES_POD, 1000, 80), udp(ANNES_POD, ANNE, 80, 1000));
    assert!(network.passes_from_client(&there) && network.passes_from_pod(&back) && network.passes_from_client(&there));
    // The address is another deployment's now.
    let mut later = access();
    later.pairs = [(address(BERT), address(ANNES_POD))].into();
    table().update(&access(), &later).unwrap();
    assert!(!network.passes_from_client(&there), "the pair is gone");
    assert!(!network.passes_from_pod(&back), "in both directions");
    assert!(network.passes_from_client(&udp(BERT, ANNES_POD, 1000, 80)));
    table().update(&later, &access()).unwrap();
    assert!(network.passes_from_client(&there) && network.passes_from_pod(&back));
}

#[test]
fn pods_on_other_nodes_see_this_node() {
    if !in_namespace("pods_on_other_nodes_see_this_node") {
        return;
    }
    let remote = [address(BERTS_POD)].into();
    let network = Network::new(&Access { remote, ..access() });
    network.send_as_client(&udp(ANNE, ANNES_POD, 1000, 80));
    assert_eq!(packet::source(&network.next_at_pods()), address(ANNE), "a pod here sees the client");
    network.send_as_client(&udp(BERT, BERTS_POD, 1000, 80));
    let seen = network.next_at_pods();
    assert_eq!(packet::source(&seen), address(PODS_GATEWAY));
    let answer = udp(BERTS_POD, PODS_GATEWAY, 80, packet::source_port(&seen));
    network.send_as_pod(&answer);
    assert_eq!(packet::destination(&network.next_at_clients()), address(BERT), "answers find the client");
}

#[test]
fn replacing_the_table_opens_no_window() {
    if !in_namespace("replacing_the_table_opens_no_window") {
        return;
    }
    let network = Network::new(&access());
    let mut sent = 0_u64;
    let replace = || table().replace(&with_probe(&access())).unwrap();
    while_changing(100, replace, || {
        network.send_as_client(&udp(ANNE, BERTS_POD, 1000, 80));
        network.send_as_pod(&udp(BERTS_POD, ANNE, 80, 1000));
        sent += 1;
    });
    assert!(sent > 1000, "only {sent} packets were sent");
    // The first to come out is one that may.
    assert!(network.passes_from_client(&udp(ANNE, ANNES_POD, 1000, 80)));
    assert!(network.passes_from_pod(&udp(ANNES_POD, ANNE, 80, 1000)));
    table().remove().unwrap();
    assert!(network.passes_from_client(&udp(ANNE, BERTS_POD, 1000, 80)), "without the table they would have passed");
}

#[test]
fn everything_stays_when_the_gateway_dies() {
    if !in_namespace("everything_stays_when_the_gateway_dies") {
        return;
    }
    drop(Network::new(&access()));
    assert!(table().exists().unwrap());
    let network = Network::reopen();
    assert!(network.passes_from_client(&udp(ANNE, ANNES_POD, 1000, 80)), "interfaces and routes are still there");
    assert!(!network.passes_from_client(&udp(ANNE, BERTS_POD, 1000, 80)));
}

#[test]
fn without_a_gateway_nothing_passes_after_a_while() {
    if !in_namespace("without_a_gateway_nothing_passes_after_a_while") {
        return;
    }
    let network = Network::new(&access());
    let (there, back) = (udp(ANNE, ANNES_POD, 1000, 80), udp(ANNES_POD, ANNE, 80, 1000));
    let passes = || network.passes_from_client(&there) && network.passes_from_pod(&back);
    assert!(passes());
    table().with_lifetime(SHORT).renew().unwrap();
    eventually("nothing of clients passes", || !network.is_open(&there, &back));
    table().renew().unwrap();
    assert!(passes(), "another gateway has come");

    let (before, after) = (with_probe(&access()), access());
    table().with_lifetime(SHORT).update(&before, &after).unwrap();
    eventually("what was changed is no longer good either", || !network.is_open(&there, &back));
    table().update(&after, &before).unwrap();
    assert!(passes());
}

#[test]
fn a_gateway_keeps_what_it_has_brought_into_force() {
    if !in_namespace("a_gateway_keeps_what_it_has_brought_into_force") {
        return;
    }
    let network = Network::new(&access());
    let wanted = with_probe(&access());
    let (there, back) = (udp(ANNE, ANNES_POD, 1000, 80), udp(ANNES_POD, ANNE, 80, 1000));
    let mut kept = KeptTable::new(table().with_lifetime(SHORT));
    kept.keep(&wanted).unwrap();
    eventually("its time is over", || !network.is_open(&there, &back));
    eventually("it is renewed", || {
        kept.keep(&wanted).unwrap();
        network.is_open(&there, &back)
    });

    let mut kept = KeptTable::new(table());
    kept.keep(&wanted).unwrap();
    table().remove().unwrap();
    assert!(network.passes_from_client(&udp(ANNE, BERTS_POD, 1000, 80)));
    kept.keep(&wanted).unwrap();
    assert!(!network.passes_from_client(&udp(ANNE, BERTS_POD, 1000, 80)), "somebody had removed it");
    kept.keep(&with_probe(&Access::default())).unwrap();
    assert!(!network.passes_from_client(&there), "a change");
}

#[test]
fn renewing_loses_no_packet() {
    if !in_namespace("renewing_loses_no_packet") {
        return;
    }
    let network = Network::new(&access());
    let renew = || table().renew().unwrap();
    while_changing(200, renew, || assert!(network.passes_from_client(&udp(ANNE, ANNES_POD, 1000, 80))));
}

#[test]
fn nor_do_tunnels_of_the_kernel_answer() {
    if !in_namespace("nor_do_tunnels_of_the_kernel_answer") {
        return;
    }
    let network = Network::new(&access());
    let table = table().with_tunnels(51820);
    table.replace(&with_probe(&access())).unwrap();
    let [tunnel, other] = [51820, 51821].map(|port| UdpSocket::bind((NODE, port)).unwrap());
    tunnel.set_nonblocking(true).unwrap();
    other.set_read_timeout(Some(network::PATIENCE)).unwrap();
    // The other packet comes later; both go the same way.
    let is_heard = || {
        for port in [51820, 51821] {
            network.send_as_pod(&udp(ANNES_POD, NODE, 7, port));
        }
        other.recv_from(&mut [0; 64]).unwrap();
        tunnel.recv_from(&mut [0; 64]).is_ok()
    };
    assert!(is_heard() && tunnel.send_to(b"hello", (ANNES_POD, 7)).is_ok());
    table.clone().with_lifetime(SHORT).renew().unwrap();
    eventually("clients are not heard", || !is_heard());
    assert!(tunnel.send_to(b"hello", (ANNES_POD, 7)).is_err(), "nor called");
    assert!(other.send_to(b"hello", (ANNES_POD, 7)).is_ok(), "others are not concerned");
    table.renew().unwrap();
    assert!(is_heard() && tunnel.send_to(b"hello", (ANNES_POD, 7)).is_ok());
}

#[test]
fn a_table_that_somebody_removed_is_noticed() {
    if !in_namespace("a_table_that_somebody_removed_is_noticed") {
        return;
    }
    assert!(!table().exists().unwrap());
    let error = table().update(&Access::default(), &access()).unwrap_err();
    assert!(error.to_string().contains("cannot be changed"), "{error}");
    table().replace(&access()).unwrap();
    assert!(table().exists().unwrap());
    // Elements that are not there: nothing of the change happens.
    let other = Access { resolvers: [address(BERT)].into(), ..access() };
    assert!(table().update(&other, &Access::default()).is_err());
    let network = Network::new(&access());
    assert!(network.passes_from_client(&udp(ANNE, ANNES_POD, 1000, 80)));
}

#[test]
fn thousands_of_clients_fit_in_one_change() {
    if !in_namespace("thousands_of_clients_fit_in_one_change") {
        return;
    }
    let many = |count: u32| {
        let pair = |n: u32| {
            let client = IpAddr::from((0x0a05_0000 + n).to_be_bytes());
            (client, IpAddr::from((0x0af4_0000 + n).to_be_bytes()))
        };
        Access { pairs: (2..count).map(pair).collect(), ..Access::default() }
    };
    let network = Network::new(&many(20_000));
    assert!(network.passes_from_client(&udp("10.5.78.31", "10.244.78.31", 1, 80)), "number 19,999");
    table().update(&many(20_000), &many(3)).unwrap();
    assert!(!network.passes_from_client(&udp("10.5.78.31", "10.244.78.31", 1, 80)));
    table().update(&many(3), &many(20_000)).unwrap();
    assert!(network.passes_from_client(&udp("10.5.78.31", "10.244.78.31", 1, 80)));
}

#[test]
fn ipv6_is_dropped() {
    if !in_namespace("ipv6_is_dropped") {
        return;
    }
    let network = Network::new(&access());
    assert!(!network.passes_from_client(&packet::udp6("fd00::2", "fd01::5", 1000, 80)));
}
