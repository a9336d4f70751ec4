//! How much TCP goes through the gateway, from a client as users have it to a pod, beside wireguard-go on the same node.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use procfs::process::{Process, all_processes};
use serde_json::{Value, json};
use sinfonia_tests::cluster::{Cluster, OURS, node_address, url};
use sinfonia_tunnel::PrivateKey;

use super::Scene;
use crate::figure::{interleaved, median, show};
use crate::stub;
use crate::tunnel::go::{self, Peer};
use crate::tunnel::lab::End;

pub(crate) const FIGURES: [&str; 3] = ["gateway_vs_wireguard_go", "gateway_gbit", "gateway_wireguard_go_gbit"];

const ROUNDS: usize = 7;
/// How long one measurement takes.
const SECONDS: &str = "5";

/// Where wireguard-go is in its tunnel, and the client.
const GO: &str = "198.51.100.1";
const GO_CLIENT: &str = "198.51.100.2";
const GO_PORT: u16 = 51899;

/// An iperf3 in the network of the backend's pod, and one as the application of a client.
pub(crate) fn run() {
    let scene = Scene::new("nothing", &[]);
    let node = scene.cluster.list("nodes", &[]).into_iter().find(is_gateways).unwrap();
    // On the gateway's node, where both tunnels reach it alike.
    let selector = json!({ "kubernetes.io/hostname": node["metadata"]["name"] });
    let application = scene.cluster.add_chart("helloworld", &format!("values: {{nodeSelector: {selector}}}"));
    let client = |url: &str, program: &[&str]| {
        let client = scene.cluster.tier3("bench", &[&[url, &application][..], program].concat()).finish();
        assert_eq!(client.code(), 0, "{}", client.errors);
        client.output
    };
    let ours = url(&scene.tier2);
    client(&ours, &["true"]);
    let address = pod_address(&scene.cluster, &application);
    let _server = Server::start(&address);

    let key = PrivateKey::generate();
    let peers = scene.cluster.list("peers", &["-l", OURS]);
    let peer = Peer { key: text(&peers[0]["spec"]["publicKey"]).parse().unwrap(), endpoint: None, inner: GO_CLIENT };
    let namespace = End::of(gateway().pid().unsigned_abs(), vec![]);
    let _go = go::end(&namespace, "bench-go", (&key, GO_PORT), GO, &peer);
    let tunnel = json!({
        "publicKey": key.public_key(),
        "allowedIPs": ["0.0.0.0/0"],
        "endpoint": format!("{}:{GO_PORT}", node_address(&node)),
        "address": [GO_CLIENT],
        "dns": ["10.96.0.10", "svc.cluster.local"],
    });
    let go = format!("http://{}", stub::start(application.parse().unwrap(), &tunnel));

    let gbit = |url: &str| {
        let report = client(url, &["iperf3", "--client", &address, "--json", "--time", SECONDS]);
        let report: Value = serde_json::from_str(&report).unwrap();
        let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
        bits.unwrap_or_else(|| panic!("iperf3: {}", report["error"])) / 1e9
    };
    let (ours, go) = interleaved(ROUNDS, || gbit(&ours), || gbit(&go));
    eprintln!("bench: Gbit/s through the gateway {ours:.2?}, through wireguard-go {go:.2?}");
    let (ours, go) = (median(ours), median(go));
    show(FIGURES[0], ours / go, "ratio");
    show(FIGURES[1], ours, "Gbit/s");
    show(FIGURES[2], go, "Gbit/s");
}

fn is_gateways(node: &Value) -> bool {
    node["metadata"]["annotations"]["findcloudlet.org/gateway"].is_string()
}

fn pod_address(cluster: &Cluster, application: &str) -> String {
    let namespace = cluster.list("namespaces", &["-l", &format!("findcloudlet.org/uuid={application}")]).remove(0);
    text(&cluster.list("pods", &["-n", &text(&namespace["metadata"]["name"])])[0]["status"]["podIP"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The gateway's process: the cluster's nodes run on this machine.
fn gateway() -> Process {
    let is_gateway = |process: &Process| process.stat().is_ok_and(|stat| stat.comm.starts_with("sinfonia-gatewa"));
    all_processes().unwrap().flatten().find(is_gateway).unwrap()
}

/// An iperf3 server.
struct Server(Child);

impl Server {
    /// Starts it in the network namespace that has this address: the cluster's pods run on this machine.
    fn start(address: &str) -> Self {
        let pids: Vec<i32> = all_processes().unwrap().flatten().map(|process| process.pid).collect();
        let is_own = |pid: &i32| local_addresses(*pid).iter().any(|own| own == address);
        let pid = pids.into_iter().find(is_own).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).args(["iperf3", "--server", "--forceflush"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("listening")), "iperf3 does not listen");
        // What it says must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The addresses that the network namespace of a process has itself, not only routes to.
fn local_addresses(pid: i32) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    local.filter_map(|pair| pair[0].strip_prefix("|-- ").map(ToOwned::to_owned)).collect()
}
