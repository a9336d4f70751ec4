//! How well clients are spread over cloudlets whose last reports are some seconds old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sinfonia_recipes::Placement;
use sinfonia_tier1::domain::cloudlet::Moment;
use sinfonia_tier1::domain::geo::distance;
use sinfonia_tier1::domain::{
    Chain, Client, Cloudlet, Inquiry, MatcherKind, Origin, Registration, Sent, Setbacks, Snapshot,
};
use sinfonia_wire::{ApplicationId, CloudletId, CloudletInfo, Location, Resources};

use super::{Cities, quantile};
use crate::figure::show;

pub(crate) const FIGURES: [&str; 6] = [
    "tier1_load_spread",
    "tier1_load_spread_distance",
    "tier1_load_spread_nearest",
    "tier1_load_spread_nearest_distance",
    "tier1_load_spread_random",
    "tier1_load_spread_random_distance",
];

const CLOUDLETS: usize = 1_000;
const CITIES: usize = 300;
const EXTENT: f64 = 25.0;
const CLIENTS: usize = 10_000;
const BURSTS: u64 = 12;
/// Of which so many come before anything is measured.
const WARM_UP: u64 = 6;
/// Seconds between bursts, that a burst takes, between reports of a cloudlet, and that a deployment lasts.
const EVERY: u64 = 60;
const BURST: u64 = 1;
const REPORT: u64 = 15;
const LIFE: u64 = 300;
/// Deployments that a cloudlet can take, from and to.
const CAPACITY: (f64, f64) = (80.0, 1_200.0);
/// Steps of the simulation in a second.
const STEPS: u64 = 100;

/// Lets the same clients come under each policy.
pub(crate) fn run() {
    eprintln!("bench: {BURSTS} bursts of {CLIENTS} clients to {CLOUDLETS} cloudlets under four policies");
    let oracle = simulate("oracle", &MatcherKind::ALL, true);
    let ours = simulate("ours", &MatcherKind::ALL, false);
    let nearest = simulate("nearest always", &[MatcherKind::Location], false);
    let random = simulate("random", &[MatcherKind::Random], false);
    for (index, outcome) in [ours, nearest, random].into_iter().enumerate() {
        show(FIGURES[2 * index], outcome.load / oracle.load, "ratio");
        show(FIGURES[2 * index + 1], outcome.distance / nearest.distance, "ratio");
    }
}

/// What a policy brings.
#[derive(Clone, Copy)]
struct Outcome {
    /// 99th percentile of the cloudlets' loads right after bursts.
    load: f64,
    /// Median distance from client to cloudlet.
    distance: f64,
}

/// A cloudlet as it really is.
struct Site {
    cloudlet: Arc<Cloudlet>,
    capacity: f64,
    active: u32,
    /// When in its interval it reports, in steps.
    phase: u64,
}

/// `is_fresh`: cloudlets report after each deployment, and without an upper limit.
fn simulate(name: &str, kinds: &[MatcherKind], is_fresh: bool) -> Outcome {
    let mut rng = SmallRng::seed_from_u64(2);
    let cities = Cities::new(CITIES, EXTENT);
    let start = Moment::now();
    let mut sites: Vec<Site> = (0..CLOUDLETS).map(|_| Site::new(cities.place(&mut rng), start, &mut rng)).collect();
    sites.sort_by_key(|site| site.cloudlet.id);
    let snapshot = Snapshot::build(sites.iter().map(|site| Arc::clone(&site.cloudlet)).collect());
    let (chain, setbacks, placement) = (Chain::new(kinds), Setbacks::default(), Placement::default());
    let mut ends: Vec<Vec<usize>> = vec![Vec::new(); ((BURSTS * EVERY + LIFE + 1) * STEPS) as usize];
    let (mut loads, mut distances) = (Vec::new(), Vec::new());
    for step in 0..BURSTS * EVERY * STEPS {
        let now = later(start, step);
        for site in ends[step as usize].drain(..) {
            sites[site].active -= 1;
        }
        for site in sites.iter().filter(|site| step % (REPORT * STEPS) == site.phase) {
            site.report(now, is_fresh);
        }
        let (burst, within) = (step / (EVERY * STEPS), step % (EVERY * STEPS));
        if within < BURST * STEPS {
            for _ in 0..CLIENTS / (BURST * STEPS) as usize {
                let place = cities.place(&mut rng);
                let client = Client { address: [192, 0, 2, 1].into(), location: Some(place), seed: rng.random() };
                let (application, now_at) = (ApplicationId::HELLOWORLD, now.at);
                let inquiry = Inquiry {
                    client: &client,
                    application,
                    placement: &placement,
                    setbacks: &setbacks,
                    now: now_at,
                    is_renewal: false,
                };
                let chosen = chain.candidates(&snapshot, &inquiry).next().unwrap().cloudlet;
                let site = sites.binary_search_by_key(&chosen.id, |site| site.cloudlet.id).unwrap();
                sites[site].active += 1;
                ends[(step + LIFE * STEPS) as usize].push(site);
                if is_fresh {
                    sites[site].report(now, true);
                } else {
                    Sent::to(chosen).made();
                }
                if burst >= WARM_UP {
                    distances.push(distance(place, chosen.locations[0]));
                }
            }
        }
        if within == BURST * STEPS && burst >= WARM_UP {
            loads.extend(sites.iter().map(Site::load));
        }
    }
    let outcome = Outcome { load: quantile(&mut loads, 0.99), distance: quantile(&mut distances, 0.5) };
    eprintln!(
        "bench: {name}: load p50 {:.3}, p99 {:.3}; median distance {:.2} km",
        quantile(&mut loads, 0.5),
        outcome.load,
        outcome.distance / 1e3
    );
    outcome
}

impl Site {
    fn new(place: Location, heard: Moment, rng: &mut SmallRng) -> Self {
        let mut info = CloudletInfo::new("http://192.0.2.1/api/v1/deploy".parse().unwrap());
        info.uuid = Some(CloudletId::from(uuid::Uuid::from_u128(rng.random())));
        info.locations = Some(vec![place]);
        info.resources.insert(Resources::CPU_RATIO, 0.0).unwrap();
        let registration = Registration { info, origin: Origin::Reported, addresses: vec![], places: vec![], heard };
        let (least, most) = CAPACITY;
        Self {
            cloudlet: Arc::new(Cloudlet::try_from(registration).unwrap()),
            capacity: (least * (most / least).powf(rng.random::<f64>())).round(),
            active: 0,
            phase: rng.random_range(0..REPORT * STEPS),
        }
    }

    fn load(&self) -> f64 {
        f64::from(self.active) / self.capacity
    }

    fn report(&self, now: Moment, is_fresh: bool) {
        let mut resources = Resources::new();
        // Processors are not more than busy.
        let load = if is_fresh { self.load() } else { self.load().min(1.0) };
        resources.insert(Resources::CPU_RATIO, load).unwrap();
        self.cloudlet.beat(resources, now);
    }
}

fn later(start: Moment, step: u64) -> Moment {
    let wait = Duration::from_millis(step * 1_000 / STEPS);
    let at: Instant = start.at + wait;
    Moment { at, date: start.date + wait }
}
