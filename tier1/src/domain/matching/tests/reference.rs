//! The same clients and cloudlets as the reference implementation was given (its matchers at commit 79b26ce, run on
//! random scenarios), with its answers: numbers of the cloudlets that each matcher yielded, or null where it raised an
//! exception. Where ours differ, one of the listed reasons has to apply.

use super::{MatcherKind, World, configured, unnamed};
use crate::domain::{Client, Cloudlet};
use ipnet::IpNet;
use serde::Deserialize;
use sinfonia_wire::{Location, Network};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

#[derive(Deserialize)]
struct Scenario {
    client: Who,
    cloudlets: Vec<Described>,
    reference: Option<Answer>,
}

#[derive(Deserialize)]
struct Who {
    address: IpAddr,
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    local_networks: Vec<Network>,
    accepted_clients: Option<Vec<Network>>,
    #[serde(default)]
    rejected_clients: Vec<Network>,
}

#[derive(Deserialize)]
struct Answer {
    network: Vec<usize>,
    location: Vec<usize>,
    random: Vec<usize>,
}

/// Where we differ on purpose, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The reference wants the client to be in all accepted networks at once, so that listing two excludes everybody.
    OneAcceptedNetworkIsEnough,
    /// By default everybody is accepted; the reference forgets IPv6.
    Ipv6IsAcceptedByDefault,
    /// The reference fails where a cloudlet is local twice, or local and not accepted; being local is enough.
    LocalIsLocal,
    /// Among local cloudlets the smallest network comes first; the reference has the order in which they were listed.
    SmallestNetworkFirst,
}

use Difference::*;

impl Described {
    fn cloudlet(&self) -> Arc<Cloudlet> {
        let mut info = unnamed();
        info.locations = Some(self.locations.clone());
        info.local_networks = Some(self.local_networks.clone());
        info.accepted_clients = self.accepted_clients.clone();
        info.rejected_clients = Some(self.rejected_clients.clone());
        configured(info)
    }

    /// Why the reference may treat this cloudlet in another way.
    fn difference(&self, client: IpAddr) -> Option<Difference> {
        let holds = |network: &Network| network.contains(client);
        match &self.accepted_clients {
            _ if self.rejected_clients.iter().any(holds) => None,
            _ if self.local_networks.iter().any(holds) => None,
            None if client.is_ipv6() => Some(Ipv6IsAcceptedByDefault),
            Some(accepted) if accepted.iter().any(holds) && !accepted.iter().all(holds) => {
                Some(OneAcceptedNetworkIsEnough)
            }
            _ => None,
        }
    }

    /// Whether the reference would fail on it.
    fn breaks_the_reference(&self, client: IpAddr) -> bool {
        let holds = |network: &Network| network.contains(client);
        let everyone = vec![Network::from(IpNet::new_assert([0, 0, 0, 0].into(), 0))];
        let accepted = self.accepted_clients.as_ref().unwrap_or(&everyone);
        let locals = self.local_networks.iter().filter(|network| holds(network)).count();
        !self.rejected_clients.iter().any(holds) && (locals > 1 || locals == 1 && !accepted.iter().all(holds))
    }

    /// Length of the smallest local network that holds the client.
    fn local(&self, client: IpAddr) -> Option<u8> {
        let holding = self.local_networks.iter().filter(|network| network.contains(client));
        holding.map(|network| network.net().prefix_len()).max()
    }
}

#[test]
fn the_reference_agrees_but_for_listed_differences() {
    let scenarios: Vec<Scenario> = serde_json::from_str(include_str!("reference.json")).unwrap();
    let mut met = BTreeSet::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        let address = scenario.client.address;
        let cloudlets: Vec<_> = scenario.cloudlets.iter().map(Described::cloudlet).collect();
        let client = Client { address, location: scenario.client.location, seed: number as u64 };
        let world = World::new(cloudlets.clone());
        // The order of the contract, and ours with nothing to prefer.
        for kinds in [&[MatcherKind::Network, MatcherKind::Location, MatcherKind::Random][..], &MatcherKind::ALL] {
            let ours = |kind| -> Vec<usize> {
                let found = world.found(kinds, &client).into_iter().filter(|(matcher, _)| *matcher == kind);
                found.map(|(_, id)| cloudlets.iter().position(|cloudlet| cloudlet.id == id).unwrap()).collect()
            };
            let (network, location, random) =
                (ours(MatcherKind::Network), ours(MatcherKind::Location), ours(MatcherKind::Random));
            let Some(reference) = &scenario.reference else {
                assert!(scenario.cloudlets.iter().any(|known| known.breaks_the_reference(address)), "{number}");
                met.insert(LocalIsLocal);
                continue;
            };
            // Cloudlets that only we offer.
            let more: Vec<usize> = (0..cloudlets.len())
                .filter(|index| {
                    scenario.cloudlets[*index].difference(address).inspect(|why| _ = met.insert(*why)).is_some()
                })
                .collect();
            let without =
                |list: &[usize]| list.iter().copied().filter(|index| !more.contains(index)).collect::<Vec<_>>();
            assert_eq!(without(&location), reference.location, "{number}");
            let mut random = without(&random);
            random.sort_unstable();
            assert_eq!(random, reference.random, "{number}");
            let mut expected = reference.network.clone();
            // Equals are in an order that differs from client to client.
            let length = |index: &usize| std::cmp::Reverse(scenario.cloudlets[*index].local(address));
            expected.sort_by_key(length);
            if expected != reference.network {
                met.insert(SmallestNetworkFirst);
            }
            assert_eq!(
                network.iter().map(length).collect::<Vec<_>>(),
                expected.iter().map(length).collect::<Vec<_>>(),
                "{number}"
            );
            assert_eq!(network.iter().collect::<BTreeSet<_>>(), reference.network.iter().collect(), "{number}");
        }
    }
    let all = [OneAcceptedNetworkIsEnough, Ipv6IsAcceptedByDefault, LocalIsLocal, SmallestNetworkFirst];
    assert_eq!(met, BTreeSet::from(all), "each difference is real");
}
