//! What a deploy request costs tier1, and whether that depends on how many cloudlets it knows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use awc::{Client, ClientRequest};
use futures_util::{StreamExt as _, stream};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sinfonia_tests::{Running, World};
use sinfonia_wire::{Location, PublicKey, header};
use uuid::Uuid;

use crate::figure::{interleaved, median, show};
use crate::{scene, stub};

pub(crate) const FIGURES: [&str; 4] = [
    "tier1_deploy_cost_10k_vs_10",
    "tier1_deploy_cost_10k_vs_10_default_clients",
    "tier1_deploy_cost_us_10k",
    "tier1_deploy_per_s_10k",
];

const FEW: usize = 10;
const MANY: usize = 10_000;
const ROUNDS: usize = 15;
/// Requests of a round.
pub(crate) const BATCH: usize = 1_000;
/// Requests at once.
const CONNECTIONS: usize = 8;
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
const SEED: u64 = 3;

/// Two tier1s whose cloudlets, all over the globe, are one stub: batches of requests to each in turn, from places all
/// over the globe, each with a key of its own.
pub(crate) fn run() {
    let accepting = compare("accepted_clients: ['0.0.0.0/0', '::/0']\n");
    let default = compare("");
    show(FIGURES[0], accepting.ratio(), "ratio");
    show(FIGURES[1], default.ratio(), "ratio");
    show(FIGURES[2], accepting.many.cpu * 1e6, "us");
    show(FIGURES[3], 1.0 / accepting.many.wall, "1/s");
}

struct Comparison {
    few: Cost,
    many: Cost,
}

/// Of one request, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Of the tier1 process.
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

impl Comparison {
    fn ratio(&self) -> f64 {
        self.many.cpu / self.few.cpu
    }
}

/// `fields` are what all cloudlets have beside endpoint and location, as YAML.
fn compare(fields: &str) -> Comparison {
    let world = World::new();
    let application = world.add_page("never deployed");
    let stub = stub::start(application, &stub::no_tunnel());
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut load = |count| {
        let tier1 = scene::tier1(&world, &format!("{count}.yaml"), &cloudlets_at(count, stub, fields, &mut rng));
        Load::new(tier1, application)
    };
    let (mut few, mut many) = (load(FEW), load(MANY));
    eprintln!("bench: {ROUNDS} times {BATCH} deploy requests to a tier1 with {FEW} cloudlets and one with {MANY}");
    let system = actix_web::rt::System::new();
    let client = system.block_on(async { Client::builder().timeout(LIMIT).finish() });
    let first = || system.block_on(few.batch(&client));
    let second = || system.block_on(many.batch(&client));
    // The first round, in which connections are made, does not count.
    let (few, many) = interleaved(ROUNDS + 1, first, second);
    Comparison { few: typical(&few[1..]), many: typical(&many[1..]) }
}

/// A file of cloudlets that are all at one endpoint.
pub(crate) fn cloudlets(count: usize, endpoint: SocketAddr, fields: &str) -> String {
    cloudlets_at(count, endpoint, fields, &mut SmallRng::seed_from_u64(SEED))
}

fn cloudlets_at(count: usize, endpoint: SocketAddr, fields: &str, rng: &mut SmallRng) -> String {
    (0..count).fold(String::new(), |mut text, _| {
        let place = anywhere(rng);
        let (lat, lon) = (place.lat(), place.lon());
        let document = format!("---\nendpoint: http://{endpoint}/api/v1/deploy\nlocation: [{lat}, {lon}]\n{fields}");
        text.push_str(&document);
        text
    })
}

/// A place on the globe, all equally likely.
fn anywhere(rng: &mut SmallRng) -> Location {
    let lat = rng.random_range(-1.0_f64..=1.0).asin().to_degrees();
    Location::new(lat, rng.random_range(-180.0..=180.0)).unwrap()
}

/// The medians.
pub(crate) fn typical(costs: &[Cost]) -> Cost {
    let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part));
    let cost = Cost { cpu: of(|cost| cost.cpu), wall: of(|cost| cost.wall) };
    eprintln!("bench: {:.0} us of CPU and {:.0} us each", cost.cpu * 1e6, cost.wall * 1e6);
    cost
}

/// A tier1 and what is asked of it.
pub(crate) struct Load {
    deploy: String,
    clock: ClockId,
    rng: SmallRng,
    tier1: Running,
}

impl Load {
    /// For an application that all its cloudlets have.
    pub(crate) fn new(tier1: Running, application: Uuid) -> Self {
        let pid = i32::try_from(tier1.pid()).unwrap();
        Self {
            deploy: format!("{}/api/v1/deploy/{application}", scene::url(&tier1)),
            clock: clock_getcpuclockid(Pid::from_raw(pid)).unwrap(),
            rng: SmallRng::seed_from_u64(SEED),
            tier1,
        }
    }

    /// What a request costs, on average over some.
    pub(crate) async fn batch(&mut self, client: &Client) -> Cost {
        let requests: Vec<_> = (0..BATCH).map(|_| self.request(client)).collect();
        let (cpu, wall) = (self.cpu(), Instant::now());
        stream::iter(requests).for_each_concurrent(CONNECTIONS, answered).await;
        let count = BATCH as f64;
        Cost { cpu: (self.cpu() - cpu).as_secs_f64() / count, wall: wall.elapsed().as_secs_f64() / count }
    }

    /// Where it shows its metrics.
    pub(crate) fn metrics_url(&self) -> String {
        format!("{}/metrics", scene::url(&self.tier1))
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(self) {
        self.tier1.stop();
    }

    /// With a new key, so that what tier1 remembers is of no help.
    fn request(&mut self, client: &Client) -> ClientRequest {
        let key = PublicKey::from(self.rng.random::<[u8; 32]>());
        let url = format!("{}/{}", self.deploy, key.url_safe());
        client.post(url).insert_header((header::X_LOCATION, anywhere(&mut self.rng).to_string()))
    }

    fn cpu(&self) -> Duration {
        self.clock.now().unwrap().into()
    }
}

async fn answered(request: ClientRequest) {
    let mut answer = request.send().await.unwrap();
    let body = answer.body().await.unwrap();
    assert!(answer.status().is_success(), "{}: {}", answer.status(), String::from_utf8_lossy(&body));
}
