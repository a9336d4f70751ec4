//! What recipes, load and failures change.

use super::{World, configured, known, unnamed};
use crate::domain::{
    Client, Cloudlet, Inquiry, MatcherKind, Origin, Registration, Sent, Setbacks,
    cloudlet::Moment,
    matching::{Chain, explain},
    setbacks::SETBACK,
};
use sinfonia_recipes::{Placement, Repository};
use sinfonia_wire::{ApplicationId, CloudletInfo, Location, Resources};
use std::{fs, sync::Arc, time::Instant};

/// What a recipe with these lines says.
async fn placement(lines: &str) -> Arc<Placement> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(format!("{}.yaml", ApplicationId::HELLOWORLD));
    fs::write(file, format!("chart: a\nversion: 1\n{lines}\n")).unwrap();
    let repository = Repository::open(directory.path().to_str().unwrap()).unwrap();
    repository.placement(&ApplicationId::HELLOWORLD).await.unwrap()
}

fn client() -> Client {
    let location = Some(Location::new(40.0, -80.0).unwrap());
    Client { address: "192.0.2.1".parse().unwrap(), location, seed: 0 }
}

/// At so many kilometres to the north.
fn at(name: &str, kilometres: f64, change: impl FnOnce(&mut CloudletInfo)) -> Arc<Cloudlet> {
    known(name, |info| {
        info.locations = Some(vec![Location::new(40.0 + kilometres / 111.03, -80.0).unwrap()]);
        change(info);
    })
}

fn load(value: f64) -> impl FnOnce(&mut CloudletInfo) {
    move |info| info.resources.insert(Resources::CPU_RATIO, value).unwrap()
}

fn labelled(value: &str) -> impl FnOnce(&mut CloudletInfo) {
    move |info| _ = info.labels.insert("gpu".to_owned(), value.to_owned())
}

#[tokio::test]
async fn requirements_drop_what_does_not_meet_them_or_may_not() {
    let world = World::new(vec![
        at("slow", 1.0, |info| {
            labelled("t4")(info);
            load(0.1)(info);
        }),
        at("busy", 10.0, |info| {
            labelled("a100")(info);
            load(0.9)(info);
        }),
        at("unknown", 20.0, labelled("a100")),
        at("good", 100.0, |info| {
            labelled("a100")(info);
            load(0.2)(info);
        }),
    ]);
    let placement = placement("requires: cloudlet.labels.gpu == 'a100' && cloudlet.resources.cpu_ratio < 0.8").await;
    assert_eq!(world.names(&MatcherKind::ALL, &client(), &placement), ["good"]);
    // Matchers that come first do not ask.
    let late = [MatcherKind::Location, MatcherKind::Requirements];
    assert_eq!(world.names(&late, &client(), &placement).len(), 4);

    // Who is there already stays although it is busy or silent, unless it cannot be right.
    let (chain, setbacks, client) = (Chain::new(&MatcherKind::ALL), Setbacks::default(), client());
    let renewal = Inquiry { is_renewal: true, ..inquiry(&client, &placement, &setbacks) };
    let stays = |name: &str| chain.offers(world.by_name(name), &renewal);
    assert_eq!(["slow", "busy", "unknown", "good"].map(stays), [false, true, true, true]);
}

#[tokio::test]
async fn preference_orders_the_nearest_and_unknown_comes_last() {
    let world = World::new(vec![
        at("near", 1.0, load(0.7)),
        at("silent", 5.0, |_| ()),
        at("middle", 50.0, load(0.3)),
        at("far", 500.0, load(0.1)),
    ]);
    let least_busy = placement("prefer: -cloudlet.resources.cpu_ratio").await;
    assert_eq!(world.names(&MatcherKind::ALL, &client(), &least_busy), ["far", "middle", "near", "silent"]);
    let weighed = placement("prefer: -cloudlet.distance / 1000.0 - 100.0 * cloudlet.resources.cpu_ratio").await;
    assert_eq!(world.names(&MatcherKind::ALL, &client(), &weighed), ["near", "middle", "far", "silent"]);
    let no_number = placement("prefer: cloudlet.name").await;
    assert_eq!(world.names(&MatcherKind::ALL, &client(), &no_number), ["near", "silent", "middle", "far"]);
}

#[test]
fn load_chooses_among_those_about_equally_near() {
    let world = World::new(vec![
        at("busy", 10.0, load(0.9)),
        at("idle", 11.0, load(0.1)),
        at("idler", 100.0, load(0.0)),
        at("unknown", 10.5, |_| ()),
    ]);
    let anywhere = Placement::default();
    assert_eq!(world.names(&MatcherKind::ALL, &client(), &anywhere), ["idle", "unknown", "busy", "idler"]);
    let contract = [MatcherKind::Network, MatcherKind::Location, MatcherKind::Random];
    assert_eq!(world.names(&contract, &client(), &anywhere), ["busy", "unknown", "idle", "idler"]);
}

#[test]
fn a_burst_does_not_all_go_to_the_one_that_looked_idle() {
    let cloudlets: Vec<_> = (0..10).map(|i| at(&i.to_string(), 10.0, load(if i == 0 { 0.0 } else { 0.4 }))).collect();
    let world = World::new(cloudlets.clone());
    let mut sent: Vec<Sent> = Vec::new();
    for seed in 0..300 {
        let client = Client { seed, ..client() };
        let first = world.names(&MatcherKind::ALL, &client, &Placement::default()).remove(0);
        sent.push(Sent::to(world.by_name(&first)));
    }
    let counts: Vec<u32> = cloudlets.iter().map(|cloudlet| cloudlet.load(Instant::now()).sent).collect();
    assert!(counts[0] >= 40 && counts[1..].iter().all(|count| (25..=31).contains(count)), "{counts:?}");
    // What is not made does not count.
    sent.clear();
    assert!(cloudlets.iter().all(|cloudlet| cloudlet.load(Instant::now()).sent == 0));
}

#[test]
fn those_that_failed_come_after_some_others_for_a_while() {
    let cloudlets: Vec<_> = (0..20).map(|i| at(&i.to_string(), 100.0 * f64::from(i + 1), |_| ())).collect();
    let world = World::new(cloudlets);
    let failed = [0, 1].map(|i| world.by_name(&i.to_string()).id);
    let names = |now| world.names_at(now, &MatcherKind::ALL, &client(), &Placement::default());
    let now = Instant::now();
    failed.iter().for_each(|id| world.setbacks.note(*id, None, now));
    let order = names(now);
    assert_eq!(
        (&order[..2], &order[15..]),
        (&["2", "3"].map(str::to_owned)[..], &["17", "0", "1", "18", "19"].map(str::to_owned)[..])
    );
    assert_eq!(names(now + SETBACK)[0], "0");
    // If there are no others, they are asked.
    let ids: Vec<_> = (0..20).map(|i| world.by_name(&i.to_string()).id).collect();
    ids.iter().for_each(|id| world.setbacks.note(*id, Some(ApplicationId::HELLOWORLD), now));
    assert_eq!(names(now).len(), 20);
}

#[test]
fn old_readings_are_no_load() {
    let (start, placement, setbacks, client) = (Moment::now(), Placement::default(), Setbacks::default(), client());
    let info = CloudletInfo { locations: Some(vec![Location::new(40.0, -80.0).unwrap()]), ..unnamed() };
    let mut idle = info.clone();
    load(0.0)(&mut idle);
    let reported =
        Registration { info: idle, origin: Origin::Reported, addresses: vec![], places: vec![], heard: start };
    let silent = Arc::new(Cloudlet::try_from(reported).unwrap());
    let mut busy = info;
    load(0.4)(&mut busy);
    busy.uuid = Some(sinfonia_wire::CloudletId::random());
    let steady = configured(busy);
    let world = World::new(vec![Arc::clone(&silent), Arc::clone(&steady)]);
    let chain = Chain::new(&MatcherKind::ALL);
    let first = |seconds| {
        let now = start.at + std::time::Duration::from_secs(seconds);
        let inquiry = Inquiry { now, ..inquiry(&client, &placement, &setbacks) };
        chain.candidates(&world.snapshot, &inquiry).next().unwrap().cloudlet.id
    };
    assert_eq!([first(60), first(61)], [silent.id, steady.id]);
}

#[tokio::test]
async fn explanations_say_why() {
    let world = World::new(vec![
        at("near", 10.0, load(0.5)),
        at("idle", 11.0, load(0.1)),
        at("draining", 1.0, |info| {
            info.draining = true;
            load(0.1)(info);
        }),
        at("closed", 2.0, |info| {
            info.rejected_clients = Some(vec!["192.0.2.0/24".parse().unwrap()]);
            load(0.1)(info);
        }),
        at("private", 3.0, |info| {
            info.accepted_clients = Some(vec!["10.0.0.0/8".parse().unwrap()]);
            load(0.1)(info);
        }),
        at("full", 4.0, load(1.0)),
        at("unknown", 5.0, |_| ()),
    ]);
    world.setbacks.note(world.by_name("near").id, None, Instant::now());
    let placement = placement("requires: cloudlet.resources.cpu_ratio < 0.9\nprefer: 1 + 1").await;
    let (chain, client) = (Chain::new(&MatcherKind::ALL), client());
    let inquiry = inquiry(&client, &placement, &world.setbacks);
    let explained = explain(&chain, &world.snapshot, &inquiry, 20);
    let found: Vec<_> = explained.candidates.iter().map(|(cloudlet, _)| cloudlet.name.as_str()).collect();
    assert_eq!(found, ["idle", "near"]);
    let reasons = explained.candidates[1].1.join("; ");
    for part in ["location: 10.0 km", "prefer is 2", "load: 0.50 (0.50 reported 0 s ago, 0 deployments", "set back"] {
        assert!(reasons.contains(part), "{reasons}");
    }
    let dropped: Vec<_> =
        explained.dropped.iter().map(|dropped| (dropped.cloudlet.name.as_str(), dropped.code)).collect();
    let expected = [
        ("draining", "draining"),
        ("closed", "client-rejected"),
        ("private", "client-not-accepted"),
        ("full", "requires-not-met"),
        ("unknown", "requires-not-met"),
    ];
    assert_eq!(dropped, expected);
    let unknown = explained.dropped.iter().find(|dropped| dropped.cloudlet.name == "unknown").unwrap();
    assert!(unknown.reason.contains("cpu_ratio is unknown (cloudlet.resources"), "{}", unknown.reason);
    assert_eq!(explain(&chain, &world.snapshot, &inquiry, 1).dropped.len(), 1, "bounded");
}

fn inquiry<'a>(client: &'a Client, placement: &'a Placement, setbacks: &'a Setbacks) -> Inquiry<'a> {
    let (application, now) = (ApplicationId::HELLOWORLD, Instant::now());
    Inquiry { client, application, placement, setbacks, now, is_renewal: false }
}
