//! What traces and metrics cost tier1.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use awc::Client;
use sinfonia_tests::{World, count_spans};

use crate::deploy_cost::{self, BATCH, LIMIT, Load};
use crate::figure::{interleaved, median, show};
use crate::{scene, stub};

pub(crate) const FIGURES: [&str; 2] = ["telemetry_cost", "telemetry_spans_kept"];

const CLOUDLETS: usize = 10;
const ROUNDS: usize = 15;
/// How often metrics are exported, and read.
const INTERVAL: Duration = Duration::from_secs(1);
/// Of a deploy request: its own, and that of the request to the cloudlet.
const SPANS: usize = 2;

/// Batches of deploy requests in turn to a tier1 that records nothing and to one that exports spans and metrics to a
/// collector, and whose metrics are read.
pub(crate) fn run() {
    let world = World::new();
    let application = world.add_page("never deployed");
    let cloudlet = stub::start(application, &stub::no_tunnel());
    let sink = Sink::start();
    world.set("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", sink.address));
    world.set("OTEL_METRIC_EXPORT_INTERVAL", &INTERVAL.as_millis().to_string());
    let cloudlets = deploy_cost::cloudlets(CLOUDLETS, cloudlet, "accepted_clients: ['0.0.0.0/0', '::/0']\n");
    let load = |disabled: &str| {
        world.set("OTEL_SDK_DISABLED", disabled);
        Load::new(scene::tier1(&world, &format!("disabled-{disabled}.yaml"), &cloudlets), application)
    };
    let (mut silent, mut traced) = (load("true"), load("false"));
    let metrics = traced.metrics_url();
    std::thread::spawn(move || {
        // Until tier1 ends.
        while ureq::get(&metrics).call().is_ok() {
            std::thread::sleep(INTERVAL);
        }
    });

    eprintln!("bench: {ROUNDS} times {BATCH} deploy requests to a tier1 without and one with traces and metrics");
    let system = actix_web::rt::System::new();
    let client = system.block_on(async { Client::builder().timeout(LIMIT).finish() });
    let first = || system.block_on(silent.batch(&client));
    let second = || system.block_on(traced.batch(&client));
    // The first round, in which connections are made, does not count.
    let (off, on) = interleaved(ROUNDS + 1, first, second);
    let (without, with) = (deploy_cost::typical(&off[1..]), deploy_cost::typical(&on[1..]));
    let ratios: Vec<f64> = off.iter().zip(&on).skip(1).map(|(off, on)| off.wall / on.wall).collect();
    eprintln!("bench: {:.0} and {:.0} requests per second; by round {ratios:.2?}", 1.0 / without.wall, 1.0 / with.wall);
    show(FIGURES[0], median(ratios), "ratio");

    let made = (ROUNDS + 1) * BATCH * SPANS;
    // What is left is exported when it ends.
    traced.stop();
    show(FIGURES[1], sink.spans() as f64 / made as f64, "ratio");
}

/// A collector that keeps what it gets, to look at it when nothing is measured any more.
struct Sink {
    address: SocketAddr,
    traces: Arc<Mutex<Vec<web::Bytes>>>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sink = Self { address, traces: Arc::default() };
        let traces = sink.traces.clone();
        let server = move || {
            let traces = traces.clone();
            App::new().app_data(web::PayloadConfig::new(usize::MAX)).default_service(web::to(
                move |request: actix_web::HttpRequest, body: web::Bytes| {
                    if request.path() == "/v1/traces" {
                        traces.lock().unwrap().push(body);
                    }
                    std::future::ready(HttpResponse::Ok())
                },
            ))
        };
        std::thread::spawn(move || {
            let serving = HttpServer::new(server).workers(1).disable_signals().listen(listener).unwrap().run();
            actix_web::rt::System::new().block_on(serving).unwrap();
        });
        sink
    }

    fn spans(&self) -> usize {
        self.traces.lock().unwrap().iter().map(|body| count_spans(body)).sum()
    }
}
