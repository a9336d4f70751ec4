//! What it costs to list candidates among a million cloudlets, beside a thousand, and beside doing nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use awc::Client;
use awc::http::Method;
use clap::Parser;
use futures_util::{StreamExt as _, stream};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use procfs::process::Process;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Deserialize;
use sinfonia_telemetry::Verbosity;
use sinfonia_tests::{Running, World};
use sinfonia_tier1::domain::geo::distance;
use sinfonia_tier1::{Config, Tier1, known_only};
use sinfonia_wire::{Location, PublicKey, header};
use uuid::Uuid;

use super::{Cities, quantile};
use crate::figure::{median, show};
use crate::stub;

pub(crate) const FIGURES: [&str; 9] = [
    "tier1_candidates_1m_vs_empty",
    "tier1_candidates_1m_vs_1k",
    "tier1_candidates_1m_per_s",
    "tier1_candidates_1m_p50_ms",
    "tier1_candidates_1m_p99_ms",
    "tier1_deploy_1m_per_s",
    "tier1_deploy_1m_p50_ms",
    "tier1_deploy_1m_p99_ms",
    "tier1_mb_per_million",
];
/// The argument with which this program is the server that does nothing.
pub(crate) const EMPTY: &str = "empty-server";

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
const CITIES: usize = 2_000;
const EXTENT: f64 = 20.0;
const ROUNDS: usize = 15;
/// Requests of a round, and at once.
const BATCH: usize = 2_000;
const CONNECTIONS: usize = 8;
const RESULTS: usize = 3;
/// Answers of a round that are checked against brute force.
const CHECKED: usize = 2;
const LIMIT: Duration = Duration::from_secs(10);
/// Reading a file with a million cloudlets takes some time.
const START: Duration = Duration::from_secs(300);

/// Batches to each server in turn, from places where people live.
pub(crate) fn run() {
    let world = World::new();
    let application = world.add_page("never deployed");
    let stub = format!("http://{}/api/v1/deploy", stub::start(application, &stub::no_tunnel()));
    let cities = Cities::new(CITIES, EXTENT);
    let places = |count| {
        let mut rng = SmallRng::seed_from_u64(4);
        (0..count).map(|_| cities.place(&mut rng)).collect::<Vec<_>>()
    };
    let (few, many) = (places(FEW), places(MANY));
    let idle = Target::tier1(&world, "none.yaml", &stub, &[], application);
    let before = idle.resident();
    drop(idle);
    let mut many = Target::tier1(&world, "many.yaml", &stub, &many, application).knowing(many);
    let megabytes = (many.resident() - before) / 1e6;
    let mut few = Target::tier1(&world, "few.yaml", &stub, &few, application).knowing(few);
    let mut empty = Target::empty(&world);

    let system = actix_web::rt::System::new();
    let client = system.block_on(async { Client::builder().timeout(LIMIT).finish() });
    eprintln!("bench: {ROUNDS} times {BATCH} requests for candidates among {FEW}, {MANY}, and to do nothing");
    let mut batches = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (target, batches) in [&mut empty, &mut few, &mut many].into_iter().zip(&mut batches) {
            let batch = system.block_on(target.batch(&client, &cities, &Method::GET));
            // The first round, in which connections are made, does not count.
            if round > 0 {
                batches.push(batch);
            }
        }
    }
    let [empty_cost, few_cost, candidates] = batches.map(|batches| Cost::of(&batches));
    let deploys: Vec<_> =
        (0..=ROUNDS / 3).map(|_| system.block_on(many.batch(&client, &cities, &Method::POST))).collect();
    let deploys = Cost::of(&deploys[1..]);
    few.check_all();
    many.check_all();
    for (name, cost) in [("nothing", &empty_cost), ("1k", &few_cost), ("1m", &candidates), ("deploy at 1m", &deploys)] {
        let Cost { cpu, wall, p50, p99 } = cost;
        let [cpu, wall, p50, p99] = [cpu, wall, p50, p99].map(|seconds| seconds * 1e6);
        eprintln!("bench: {name}: {cpu:.0} us of CPU and {wall:.0} us each; p50 {p50:.0} us, p99 {p99:.0} us");
    }
    eprintln!("bench: the reference made 8.0 and 0.8 deployments/s with 1,000 and 10,000 cloudlets");
    show(FIGURES[0], empty_cost.cpu / candidates.cpu, "ratio");
    show(FIGURES[1], candidates.cpu / few_cost.cpu, "ratio");
    show(FIGURES[2], 1.0 / candidates.wall, "1/s");
    show(FIGURES[3], candidates.p50 * 1e3, "ms");
    show(FIGURES[4], candidates.p99 * 1e3, "ms");
    show(FIGURES[5], 1.0 / deploys.wall, "1/s");
    show(FIGURES[6], deploys.p50 * 1e3, "ms");
    show(FIGURES[7], deploys.p99 * 1e3, "ms");
    show(FIGURES[8], megabytes, "MB");
}

/// Serves nothing, behind all that stands before what tier1 serves.
pub(crate) fn empty() {
    let _telemetry = sinfonia_telemetry::init("empty", Verbosity::Normal);
    let Empty { config } = Empty::parse_from(["empty", "--port", "0", "--recipes", "."]);
    let served = async {
        let tier1 = Tier1::bind(config).await.unwrap();
        let nothing = || async { HttpResponse::Ok().finish() };
        let routes = move |routes: &mut web::ServiceConfig| {
            routes.service(known_only(vec!["/{all:.*}".to_owned()]).get(nothing));
        };
        tier1.run_with(routes).await
    };
    actix_web::rt::System::new().block_on(served).unwrap();
}

/// Its configuration.
#[derive(Parser)]
struct Empty {
    #[command(flatten)]
    config: Config,
}

/// Of one request on average over a batch, in seconds.
struct Batch {
    /// Of the server's process.
    cpu: f64,
    wall: f64,
    each: Vec<f64>,
}

/// Of one request, in seconds.
struct Cost {
    cpu: f64,
    wall: f64,
    p50: f64,
    p99: f64,
}

impl Cost {
    fn of(batches: &[Batch]) -> Self {
        let mut each: Vec<f64> = batches.iter().flat_map(|batch| batch.each.iter().copied()).collect();
        Self {
            cpu: median(batches.iter().map(|batch| batch.cpu)),
            wall: median(batches.iter().map(|batch| batch.wall)),
            p50: quantile(&mut each, 0.5),
            p99: quantile(&mut each, 0.99),
        }
    }
}

/// A server and what is asked of it.
struct Target {
    url: String,
    /// Where the cloudlets are that it knows.
    known: Vec<Location>,
    /// Answers to be checked, with the places they are for.
    answers: Vec<(Location, web::Bytes)>,
    clock: ClockId,
    rng: SmallRng,
    server: Running,
}

/// What is looked at in an answer.
#[derive(Deserialize)]
struct Candidate {
    locations: Vec<Location>,
}

impl Target {
    fn tier1(world: &World, file: &str, endpoint: &str, places: &[Location], application: Uuid) -> Self {
        let path = world.path(file);
        let mut text = BufWriter::new(File::create(&path).unwrap());
        for place in places {
            let (lat, lon) = (place.lat(), place.lon());
            writeln!(text, "---\nendpoint: {endpoint}\nlocation: [{lat}, {lon}]").unwrap();
        }
        drop(text);
        let begin = Instant::now();
        let server = world.tier1(&["--cloudlets", path.to_str().unwrap()]);
        let target = Self::new(server, |address| format!("http://{address}/api/v1/deploy/{application}"));
        eprintln!("bench: tier1 read {} cloudlets within {:.1} s", places.len(), begin.elapsed().as_secs_f64());
        target
    }

    fn empty(world: &World) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(EMPTY);
        Self::new(world.start(command), |address| format!("http://{address}"))
    }

    fn new(server: Running, url: impl FnOnce(std::net::SocketAddr) -> String) -> Self {
        let begin = Instant::now();
        while !server.log().contains("listens") {
            assert!(begin.elapsed() < START, "no server after {START:?}:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
        Self {
            url: url(server.listens()),
            known: Vec::new(),
            answers: Vec::new(),
            clock: clock_getcpuclockid(pid).unwrap(),
            rng: SmallRng::seed_from_u64(5),
            server,
        }
    }

    fn knowing(self, known: Vec<Location>) -> Self {
        Self { known, ..self }
    }

    /// Bytes of memory.
    fn resident(&self) -> f64 {
        let process = Process::new(i32::try_from(self.server.pid()).unwrap()).unwrap();
        let maps = process.smaps_rollup().unwrap().memory_map_rollup;
        maps.iter().filter_map(|map| map.extension.map.get("Rss")).sum::<u64>() as f64
    }

    async fn batch(&mut self, client: &Client, cities: &Cities, method: &Method) -> Batch {
        let asked: Vec<(Location, String)> = (0..BATCH).map(|_| self.request(cities)).collect();
        let (cpu, wall) = (self.cpu(), Instant::now());
        let answers = stream::iter(&asked).map(|(place, url)| async move {
            let request = client.request(method.clone(), url.as_str());
            let begin = Instant::now();
            let mut answer = request.insert_header((header::X_LOCATION, place.to_string())).send().await.unwrap();
            let body = answer.body().await.unwrap();
            assert!(answer.status().is_success(), "{}: {}", answer.status(), String::from_utf8_lossy(&body));
            (begin.elapsed().as_secs_f64(), body)
        });
        let answers: Vec<_> = answers.buffered(CONNECTIONS).collect().await;
        let count = BATCH as f64;
        let cpu = (self.cpu() - cpu).as_secs_f64() / count;
        let wall = wall.elapsed().as_secs_f64() / count;
        if *method == Method::GET && !self.known.is_empty() {
            let checked = asked.iter().zip(&answers).take(CHECKED);
            self.answers.extend(checked.map(|((place, _), (_, body))| (*place, body.clone())));
        }
        Batch { cpu, wall, each: answers.into_iter().map(|(seconds, _)| seconds).collect() }
    }

    /// With a new key, so that what tier1 remembers is of no help.
    fn request(&mut self, cities: &Cities) -> (Location, String) {
        let key = PublicKey::from(self.rng.random::<[u8; 32]>());
        let mut url = self.url.clone();
        write!(url, "/{}?results={RESULTS}", key.url_safe()).unwrap();
        (cities.place(&mut self.rng), url)
    }

    /// Not between batches, since idle connections are closed after some seconds.
    fn check_all(&self) {
        self.answers.iter().for_each(|(from, body)| self.check(*from, body));
        eprintln!("bench: {} answers are those of brute force among {}", self.answers.len(), self.known.len());
    }

    /// The distances have to be the smallest there are.
    fn check(&self, from: Location, body: &[u8]) {
        let answer: Vec<Candidate> = serde_json::from_slice(body).unwrap();
        let found: Vec<f64> = answer.iter().map(|candidate| distance(from, candidate.locations[0])).collect();
        let mut all: Vec<f64> = self.known.iter().map(|place| distance(from, *place)).collect();
        all.select_nth_unstable_by(RESULTS, f64::total_cmp);
        all.truncate(RESULTS);
        all.sort_by(f64::total_cmp);
        // Numbers have been text on the way.
        let agree = found.len() == all.len() && found.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(agree, "the {RESULTS} nearest from {from} are at {all:?}, not {found:?}");
    }

    fn cpu(&self) -> Duration {
        self.clock.now().unwrap().into()
    }
}
