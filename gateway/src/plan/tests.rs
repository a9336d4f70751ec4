use proptest::prelude::*;
use sinfonia_wire::cluster::PeerSpec;

use super::*;

fn surroundings() -> Surroundings {
    Surroundings {
        client_networks: vec!["10.5.0.0/16".parse().unwrap()],
        node: "here".into(),
        namespace: "sinfonia".into(),
        key: [255; 32].into(),
    }
}

fn peer(name: &str, key: u8, address: &str, created: i64) -> ClusterPeer {
    let allowed_ips = vec![address.parse().unwrap()];
    let spec = PeerSpec { allowed_ips, public_key: [key; 32].into(), persistent_keepalive: 10 };
    ClusterPeer { name: name.into(), uid: format!("uid-{name}"), created, is_deployment: true, spec: Ok(spec) }
}

fn pod(namespace: &str, address: &str, node: &str) -> ClusterPod {
    let addresses = vec![address.parse().unwrap()];
    ClusterPod { namespace: namespace.into(), addresses, node: node.into(), is_resolver: namespace == "kube-system" }
}

fn refusals(peers: &[ClusterPeer]) -> Vec<String> {
    let plan = plan(peers, [], &surroundings());
    plan.refused.iter().map(|(name, refused)| format!("{name}: {}", refused.refusal)).collect()
}

#[test]
fn a_client_reaches_its_own_pods_and_the_resolver() {
    let peers = [peer("a", 1, "10.5.0.2/32", 1), peer("b", 2, "10.5.0.3/32", 2)];
    let pods = [
        pod("a", "10.244.0.5", "here"),
        pod("a", "10.244.1.5", "there"),
        pod("b", "10.244.1.6", "there"),
        pod("other", "10.244.1.7", "there"),
        pod("kube-system", "10.244.1.8", "there"),
    ];
    let plan = plan(&peers, &pods, &surroundings());
    let pairs: Vec<_> = plan.access.pairs.iter().map(|(client, pod)| format!("{client} {pod}")).collect();
    assert_eq!(pairs, ["10.5.0.2 10.244.0.5", "10.5.0.2 10.244.1.5", "10.5.0.3 10.244.1.6"]);
    let shown = |set: &BTreeSet<IpAddr>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&plan.access.resolvers), ["10.244.1.8"]);
    assert_eq!(shown(&plan.access.remote), ["10.244.1.5", "10.244.1.6", "10.244.1.8"]);
    assert_eq!(plan.peers.len(), 2);
}

#[test]
fn of_two_that_want_the_same_the_older_has_it() {
    let old = peer("old", 1, "10.5.0.2/32", 1);
    for (young, expected) in [
        (peer("young", 1, "10.5.0.3/32", 2), "young: its key is also that of the older peer old"),
        (peer("young", 2, "10.5.0.2/32", 2), "young: its address 10.5.0.2 is also that of the older peer old"),
    ] {
        for peers in [[old.clone(), young.clone()], [young.clone(), old.clone()]] {
            assert_eq!(refusals(&peers), [expected]);
        }
        assert_eq!(refusals(&[young]), [""; 0], "alone it is served");
    }
}

#[test]
fn peers_that_would_take_more_than_a_clients_share_are_refused() {
    let unlabelled = ClusterPeer { is_deployment: false, ..peer("a", 1, "10.5.0.2/32", 1) };
    let broken = ClusterPeer { spec: Err("missing field".into()), ..peer("a", 1, "10.5.0.2/32", 1) };
    let mut empty = peer("a", 1, "10.5.0.2/32", 1);
    empty.spec.as_mut().unwrap().allowed_ips.clear();
    for (peer, expected) in [
        (unlabelled, "label"),
        (broken, "missing field"),
        (empty, "allowedIPs is empty"),
        (peer("a", 1, "10.5.0.0/24", 1), "more than one address"),
        (peer("a", 1, "10.6.0.2/32", 1), "outside"),
        (peer("a", 255, "10.5.0.2/32", 1), "gateway's own"),
        (peer("kube-system", 1, "10.5.0.2/32", 1), "holds no deployment"),
        (peer("default", 1, "10.5.0.2/32", 1), "holds no deployment"),
        (peer("sinfonia", 1, "10.5.0.2/32", 1), "holds no deployment"),
    ] {
        let found = refusals(&[peer]);
        assert!(found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn an_address_that_two_namespaces_claim_is_nobodys() {
    let peers = [peer("a", 1, "10.5.0.2/32", 1)];
    let pods = [pod("a", "10.244.0.5", "here"), pod("b", "10.244.0.5", "there"), pod("a", "10.5.0.9", "here")];
    let plan = plan(&peers, &pods, &surroundings());
    assert!(plan.access.pairs.is_empty(), "nor is a client's address a pod's: {:?}", plan.access);
}

proptest! {
    /// However many there are in whatever order, nobody reaches a pod that is not in the namespace of its name, no
    /// address belongs to two peers, and every peer is either served or refused.
    #[test]
    fn nobody_reaches_what_is_not_its_own(
        peers in proptest::collection::vec((0_u8..6, 0_u8..8, 0_u8..8, 0_i64..4), 0..12),
        pods in proptest::collection::vec((0_u8..6, 0_u8..12, any::<bool>()), 0..20),
    ) {
        let peers: BTreeMap<_, _> = peers
            .into_iter()
            .map(|(name, key, address, created)| {
                let name = format!("n{name}");
                (name.clone(), peer(&name, key, &format!("10.5.0.{address}/32"), created))
            })
            .collect();
        let pods: Vec<_> = pods
            .into_iter()
            .map(|(name, address, here)| {
                pod(&format!("n{name}"), &format!("10.244.0.{address}"), if here { "here" } else { "there" })
            })
            .collect();
        let plan = plan(peers.values(), &pods, &surroundings());
        let reversed = super::plan(peers.values().rev(), pods.iter().rev(), &surroundings());
        prop_assert_eq!(&plan, &reversed);
        prop_assert_eq!(plan.peers.len() + plan.refused.len(), peers.len());
        let mut addresses = BTreeSet::new();
        for served in plan.peers.values() {
            for address in &served.addresses {
                prop_assert!(addresses.insert(*address), "{} twice", address);
            }
        }
        for (client, target) in &plan.access.pairs {
            let served = plan.peers.values().find(|served| served.addresses[0].addr() == *client).unwrap();
            for pod in pods.iter().filter(|pod| pod.addresses[0] == *target) {
                prop_assert_eq!(&pod.namespace, &served.name);
            }
        }
    }
}
