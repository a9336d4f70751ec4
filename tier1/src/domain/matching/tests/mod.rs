mod lazy;
mod reference;
mod selecting;

use super::{Chain, Client, Inquiry, MatcherKind, MatcherKind::*};
use crate::domain::{Cloudlet, Origin, Registration, Setbacks, Snapshot, cloudlet::Moment};
use geo::{Point, VincentyDistance as _};
use proptest::{collection::vec, option, prelude::*, sample::select};
use sinfonia_recipes::Placement;
use sinfonia_wire::{ApplicationId, CloudletId, CloudletInfo, Location, Network};
use std::{net::IpAddr, sync::Arc, time::Instant};

/// Nested networks of both families, so that clients often are in several.
const NETWORKS: [&str; 10] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::1/128",
    "192.0.2.128/25",
];
const CLIENTS: [&str; 6] =
    ["10.1.2.3", "::ffff:10.1.2.3", "10.200.0.1", "2001:db8:1::1", "2001:db8:2::1", "192.0.2.129"];

fn unnamed() -> CloudletInfo {
    let endpoint = "http://192.0.2.1/api/v1/deploy".parse().unwrap();
    CloudletInfo { uuid: Some(CloudletId::random()), ..CloudletInfo::new(endpoint) }
}

fn configured(info: CloudletInfo) -> Arc<Cloudlet> {
    let heard = Moment::now();
    let parts = Registration { info, origin: Origin::Configured, addresses: vec![], places: vec![], heard };
    Arc::new(Cloudlet::try_from(parts).unwrap())
}

/// Cloudlets and what matching needs beside them.
struct World {
    snapshot: Snapshot,
    setbacks: Setbacks,
}

impl World {
    fn new(cloudlets: Vec<Arc<Cloudlet>>) -> Self {
        Self { snapshot: Snapshot::build(cloudlets), setbacks: Setbacks::default() }
    }

    /// The same, where those that `recent` says came, or came back, after the big index was made.
    fn changed(cloudlets: &[Arc<Cloudlet>], recent: u64) -> Self {
        let is_recent = |index: usize| recent >> (index % 64) & 1 == 1;
        let old = cloudlets.iter().enumerate().map(|(index, cloudlet)| {
            let former = || configured(CloudletInfo { uuid: Some(cloudlet.id), ..unnamed() });
            if is_recent(index) { former() } else { Arc::clone(cloudlet) }
        });
        let gone = known("gone", |_| ());
        let base = Snapshot::build(old.chain([Arc::clone(&gone)]).collect());
        let recent = cloudlets.iter().enumerate().filter(|(index, _)| is_recent(*index));
        let changes = recent.map(|(_, cloudlet)| (cloudlet.id, Some(Arc::clone(cloudlet)))).chain([(gone.id, None)]);
        Self { snapshot: base.with(changes), setbacks: Setbacks::default() }
    }

    fn by_name(&self, name: &str) -> &Arc<Cloudlet> {
        self.snapshot.cloudlets().find(|cloudlet| cloudlet.name == name).unwrap()
    }

    fn found(&self, kinds: &[MatcherKind], client: &Client) -> Vec<(MatcherKind, CloudletId)> {
        self.ask(Instant::now(), kinds, client, &Placement::default(), |matcher, cloudlet| (matcher, cloudlet.id))
    }

    fn names(&self, kinds: &[MatcherKind], client: &Client, placement: &Placement) -> Vec<String> {
        self.names_at(Instant::now(), kinds, client, placement)
    }

    fn names_at(&self, now: Instant, kinds: &[MatcherKind], client: &Client, placement: &Placement) -> Vec<String> {
        self.ask(now, kinds, client, placement, |_, cloudlet| cloudlet.name.clone())
    }

    fn ask<T>(
        &self,
        now: Instant,
        kinds: &[MatcherKind],
        client: &Client,
        placement: &Placement,
        read: impl Fn(MatcherKind, &Cloudlet) -> T,
    ) -> Vec<T> {
        let (application, setbacks) = (ApplicationId::HELLOWORLD, &self.setbacks);
        let inquiry = Inquiry { client, application, placement, setbacks, now, is_renewal: false };
        let chain = Chain::new(kinds);
        let found = chain.candidates(&self.snapshot, &inquiry);
        found.map(|candidate| read(candidate.matcher, candidate.cloudlet)).collect()
    }
}

fn networks(most: usize) -> impl Strategy<Value = Vec<Network>> {
    vec(select(&NETWORKS[..]).prop_map(|text| text.parse().unwrap()), 0..=most)
}

fn location() -> impl Strategy<Value = Location> {
    (-80.0..80.0, -180.0..180.0).prop_map(|(lat, lon)| Location::new(lat, lon).unwrap())
}

prop_compose! {
    fn cloudlet()(
        locations in vec(location(), 0..3),
        local in networks(2),
        accepted in option::of(networks(2)),
        rejected in networks(1),
        draining in prop::bool::weighted(0.1),
    ) -> Arc<Cloudlet> {
        let mut info = unnamed();
        info.locations = Some(locations);
        info.local_networks = Some(local);
        info.accepted_clients = accepted;
        info.rejected_clients = Some(rejected);
        info.draining = draining;
        configured(info)
    }
}

prop_compose! {
    fn client()(address in select(&CLIENTS[..]), location in option::of(location()), seed: u64) -> Client {
        Client { address: address.parse().unwrap(), location, seed }
    }
}

fn kinds() -> impl Strategy<Value = Vec<MatcherKind>> {
    prop_oneof![Just(MatcherKind::ALL.to_vec()), vec(select(&MatcherKind::ALL[..]), 0..4)]
}

/// The contract, word by word: what each matcher yields, in no particular order.
fn stages(kinds: &[MatcherKind], cloudlets: &[Arc<Cloudlet>], client: &Client) -> Vec<Vec<CloudletId>> {
    let holds = |networks: &[Network]| networks.iter().any(|network| network.contains(client.address));
    let mut left: Vec<&Arc<Cloudlet>> = cloudlets.iter().filter(|cloudlet| !cloudlet.draining).collect();
    let mut stages = Vec::new();
    for kind in kinds {
        let mut yielded = Vec::new();
        left.retain(|cloudlet| {
            let (yields, stays) = match kind {
                Network if holds(&cloudlet.rejected_clients) => (false, false),
                Network if holds(&cloudlet.local_networks) => (true, false),
                Network => (false, cloudlet.accepted_clients.is_empty() || holds(&cloudlet.accepted_clients)),
                Location => {
                    let placed = client.location.is_some() && !cloudlet.locations.is_empty();
                    (placed, !placed)
                }
                Random => (true, false),
                // Nothing is required or preferred, and nobody is busier than others.
                Requirements | Load => (false, true),
            };
            if yields {
                yielded.push(cloudlet.id);
            }
            stays
        });
        stages.push(yielded);
    }
    stages
}

/// Distance to the nearest location, by Vincenty's series.
fn vincenty(cloudlet: &Cloudlet, from: Location) -> Option<f64> {
    let point = |location: &Location| Point::new(location.lon(), location.lat());
    let distances = cloudlet.locations.iter().map(|to| point(&from).vincenty_distance(&point(to)).ok());
    distances.collect::<Option<Vec<_>>>()?.into_iter().reduce(f64::min)
}

proptest! {
    #[test]
    fn candidates_are_those_of_the_contract(
        cloudlets in vec(cloudlet(), 0..40),
        client in client(),
        kinds in kinds(),
        recent: u64,
    ) {
        let world = World::changed(&cloudlets, recent);
        let found = world.found(&kinds, &client);
        let stages = stages(&kinds, &cloudlets, &client);
        prop_assert_eq!(found.len(), stages.iter().map(Vec::len).sum::<usize>());

        let mut rest = &found[..];
        for (kind, mut expected) in kinds.iter().zip(stages) {
            let (now, later) = rest.split_at(expected.len());
            rest = later;
            let mut ids: Vec<_> = now.iter().map(|(_, id)| *id).collect();
            ids.sort();
            expected.sort();
            prop_assert_eq!(ids, expected);
            if let (Location, Some(from)) = (kind, client.location) {
                let distances: Vec<_> = now.iter().filter_map(|(_, id)| vincenty(world.snapshot.get(*id)?, from)).collect();
                prop_assert!(distances.windows(2).all(|pair| pair[0] <= pair[1] + 1e-3), "{:?}", distances);
            }
        }
    }

    #[test]
    fn what_is_said_about_one_cloudlet_agrees_with_the_list(
        cloudlets in vec(cloudlet(), 0..20),
        client in client(),
        kinds in kinds(),
    ) {
        let (placement, setbacks) = (Placement::default(), Setbacks::default());
        let (application, now) = (ApplicationId::HELLOWORLD, Instant::now());
        let inquiry =
            Inquiry { client: &client, application, placement: &placement, setbacks: &setbacks, now, is_renewal: false };
        let snapshot = Snapshot::build(cloudlets.clone());
        let chain = Chain::new(&kinds);
        let found: Vec<_> = chain.candidates(&snapshot, &inquiry).map(|candidate| candidate.cloudlet.id).collect();
        for cloudlet in cloudlets.iter().filter(|cloudlet| !cloudlet.draining) {
            prop_assert_eq!(chain.offers(cloudlet, &inquiry), found.contains(&cloudlet.id));
            prop_assert!(!(chain.offers(cloudlet, &inquiry) && chain.objection(cloudlet, &inquiry).is_some()));
        }
    }
}

fn known(name: &str, change: impl FnOnce(&mut CloudletInfo)) -> Arc<Cloudlet> {
    let mut info = unnamed();
    info.name = Some(name.to_owned());
    change(&mut info);
    configured(info)
}

fn names(cloudlets: Vec<Arc<Cloudlet>>, address: &str, location: Option<&str>) -> Vec<String> {
    let address: IpAddr = address.parse().unwrap();
    let client = Client { address, location: location.map(|text| text.parse().unwrap()), seed: 0 };
    World::new(cloudlets).names(&MatcherKind::ALL, &client, &Placement::default())
}

#[test]
fn local_ones_come_first_then_near_ones_then_the_rest() {
    let cloudlets = vec![
        known("nowhere", |_| ()),
        known("far", |info| info.locations = Some(vec![Location::new(50.0, 8.0).unwrap()])),
        known("near", |info| info.locations = Some(vec![Location::new(40.5, -80.0).unwrap()])),
        known("campus", |info| info.local_networks = Some(vec!["10.1.0.0/16".parse().unwrap()])),
        known("room", |info| info.local_networks = Some(vec!["10.1.2.0/24".parse().unwrap()])),
    ];
    let found = names(cloudlets.clone(), "10.1.2.3", Some("40.44,-79.94"));
    assert_eq!(found, ["room", "campus", "near", "far", "nowhere"]);
    let elsewhere = names(cloudlets, "192.0.2.1", Some("50.1,8.1"));
    assert_eq!(elsewhere[..2], ["far", "near"]);
}

#[test]
fn ellipsoid_not_sphere_decides() {
    // On a sphere the first is nearer (by 5 km), on the earth the second.
    let cloudlets = vec![
        known("east", |info| info.locations = Some(vec![Location::new(0.0, 29.95).unwrap()])),
        known("north", |info| info.locations = Some(vec![Location::new(30.0, 0.0).unwrap()])),
    ];
    assert_eq!(names(cloudlets, "192.0.2.1", Some("0,0")), ["north", "east"]);
}

#[test]
fn everyone_is_accepted_by_default_ipv6_included() {
    for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert_eq!(names(vec![known("open", |_| ())], address, None), ["open"]);
    }
}
