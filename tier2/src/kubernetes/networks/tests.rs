use proptest::prelude::*;

use super::*;
use crate::kubernetes::view::tests::node;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A dual-stack cluster, in which IPv6 is public and of IPv4 what clouds give addresses for.
fn view() -> ClusterView {
    let end = NodeFacts {
        addresses: addresses(&["192.168.7.1", "2001:db8:7::1"]),
        external_addresses: addresses(&["203.0.113.7"]),
        pod_networks: nets(&["10.244.0.0/24", "2001:db8:8:0::/64"]),
        ..node("a")
    };
    let other = NodeFacts {
        addresses: addresses(&["198.51.100.2"]),
        pod_networks: nets(&["10.244.1.0/24", "2001:db8:8:1::/64"]),
        ..node("b")
    };
    ClusterView {
        nodes: vec![end, other],
        resolver: Some([10, 96, 0, 10].into()),
        api_servers: addresses(&["203.0.113.6"]),
        service_networks: nets(&["10.96.0.0/12", "2001:db8:9::/112", "fd00::/112"]),
        dns_ready: true,
    }
}

#[test]
fn what_is_public_of_the_cluster_is_kept_from_backends() {
    let found = Networks::around(&view(), "a");
    let expected = ["198.51.100.2/32", "203.0.113.6/31", "2001:db8:7::1/128", "2001:db8:8::/63", "2001:db8:9::/112"];
    assert_eq!(found.cluster, nets(&expected));
    assert_eq!(Networks::around(&ClusterView::default(), "a"), Networks::default());
    let everything = NodeFacts { pod_networks: nets(&["0.0.0.0/0", "::/0", "2000::/3"]), ..node("a") };
    let everything = ClusterView { nodes: vec![everything], ..ClusterView::default() };
    assert_eq!(own_public(&everything), [], "an exception has to be smaller than what it is from");
}

#[test]
fn clients_come_from_every_address_of_the_node() {
    let found = Networks::around(&view(), "a").sources;
    let of_pods = ["10.244.0.0/32", "10.244.0.1/32", "2001:db8:8::/128", "2001:db8:8::1/128"];
    assert_eq!(found, nets(&[&["192.168.7.1/32", "2001:db8:7::1/128"][..], &of_pods].concat()));
}

#[test]
fn a_host_is_let_in_as_the_node_that_it_is() {
    let mut networks = Networks::around(&view(), "a");
    let before = networks.clone();
    networks.let_in(&view(), [192, 168, 7, 1].into());
    assert_eq!(networks, before, "it is already");
    networks.let_in(&view(), [198, 51, 100, 2].into());
    networks.let_in(&view(), [192, 168, 7, 9].into());
    let more = ["198.51.100.2/32", "10.244.1.0/32", "10.244.1.1/32", "2001:db8:8:1::/128", "2001:db8:8:1::1/128"];
    assert_eq!(networks.sources[before.sources.len()..], nets(&[&more[..], &["192.168.7.9/32"]].concat()));
}

#[test]
fn neighbours_are_taken_together() {
    let networks = nets(&["192.0.2.1/32", "192.0.2.4/32", "192.0.2.6/32", "203.0.113.0/24"]);
    assert_eq!(few(networks.clone(), 4), networks);
    assert_eq!(few(networks.clone(), 3), nets(&["192.0.2.1/32", "192.0.2.4/30", "203.0.113.0/24"]));
    assert_eq!(few(networks.clone(), 2), nets(&["192.0.2.0/29", "203.0.113.0/24"]));
}

proptest! {
    /// However many nodes there are, wherever they are: each is in an exception, and exceptions are few and public.
    #[test]
    fn thousands_of_nodes_fit_in_one_policy(
        v4 in proptest::collection::vec(any::<u32>(), 0..400),
        v6 in proptest::collection::vec(any::<u128>(), 0..400),
    ) {
        let v4 = v4.into_iter().map(|number| IpAddr::V4(number.into()));
        let v6 = v6.into_iter().map(|number| IpAddr::V6((number >> 3 | 1 << 125).into()));
        let addresses: Vec<IpAddr> = v4.chain(v6).collect();
        let one = NodeFacts { addresses: addresses.clone(), ..node("a") };
        let excepted = own_public(&ClusterView { nodes: vec![one], ..ClusterView::default() });
        for address in addresses {
            let is_covered = excepted.iter().any(|network| network.contains(&address));
            prop_assert!(is_covered || !is_public(&address.into()), "{address}");
        }
        for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
            prop_assert!(excepted.iter().filter(|network| family(&network.addr())).count() <= MOST);
        }
        prop_assert!(excepted.iter().all(|network| is_public(network) && *network == network.trunc()));
    }
}
