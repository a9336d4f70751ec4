//! The gateway dies or moves, or the API server falls silent: clients in their tunnels go on, and nothing that was asked for is lost.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sinfonia_tests::cluster::{Cluster, NAMESPACE, OURS, node_address, output_of, url};
use sinfonia_tests::{Running, eventually};
use sinfonia_wire::PublicKey;

use crate::settled::{Answer, LONG, ask, await_mid_install, deployed, forget_leader, settles, text};

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(30);

/// Label selector of the gateway's pod.
const GATEWAY: &str = "app.kubernetes.io/name=sinfonia-gateway";

/// Fetches the page again and again.
const FETCHES: [&str; 3] =
    ["sh", "-c", "while :; do timeout 5 busybox wget -q -O- http://helloworld/ && echo; busybox sleep 0.2; done"];

/// A client that fetches its page all the time, and its deployment's uid.
fn busy_client(cluster: &Cluster, base: &str, application: &str) -> (Running, String) {
    let client = cluster.tier3("anna", &[&[base, application][..], &FETCHES].concat());
    fetches_more(&client);
    let objects = cluster.list("cloudletdeployments", &[]);
    let uid = objects.iter().find(|object| text(object, "/spec/application") == application).unwrap();
    (client, text(uid, "/metadata/uid").to_owned())
}

fn pages(client: &Running) -> usize {
    client.output().matches("Hello, world!").count()
}

fn fetches_more(client: &Running) {
    let (before, begin) = (pages(client), Instant::now());
    settles(
        || format!("{}\n{}", client.output(), client.log()),
        || if pages(client) > before + 1 { Ok(()) } else { Err("the client fetches no page".to_owned()) },
    );
    eprintln!("the client fetches pages after {} ms", begin.elapsed().as_millis());
}

/// The gateway's present life and its node, if it is ready.
fn gateway(cluster: &Cluster) -> Option<(String, String)> {
    let pods = cluster.list("pods", &["-n", NAMESPACE, "-l", GATEWAY]);
    let of_ready = |pod: &Value| {
        let container = pod.pointer("/status/containerStatuses/0").filter(|container| container["ready"] == true)?;
        Some((text(container, "/containerID").to_owned(), text(pod, "/spec/nodeName").to_owned()))
    };
    pods.iter().find_map(of_ready)
}

#[test]
fn clients_go_on_when_the_gateway_dies() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("helloworld", "");
    let tier2 = cluster.tier2(&["--lease", "60", "--expiry-interval", "1"]);
    let (mut client, uid) = busy_client(&cluster, &url(&tier2), &application);
    let (life, node) = gateway(&cluster).unwrap();
    // The name of a process is cut off after 15 bytes.
    output_of(Command::new("docker").args(["exec", &node, "pkill", "-KILL", "-x", "sinfonia-gatewa"]));
    let another = |life: &str| gateway(&cluster).is_some_and(|(now, _)| now != life);
    eventually("the gateway is started again", || another(&life));
    fetches_more(&client);
    let (life, _) = gateway(&cluster).unwrap();
    cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", "-l", GATEWAY, "--force", "--grace-period=0"]);
    eventually("the gateway has another pod", || another(&life));
    fetches_more(&client);
    assert!(client.is_running(), "{}", client.log());
    let objects = cluster.list("cloudletdeployments", &[]);
    assert_eq!(objects.len(), 1);
    assert_eq!(text(&objects[0], "/metadata/uid"), uid, "{}", tier2.log());
}

/// The gateway on another node, until this is dropped.
struct Moved<'a> {
    cluster: &'a Cluster,
    from: String,
}

impl<'a> Moved<'a> {
    fn to(cluster: &'a Cluster, node: &str) -> Self {
        let (_, from) = gateway(cluster).unwrap();
        let moved = Self { cluster, from };
        moved.select(node);
        eventually("the gateway is on the other node", || gateway(cluster).is_some_and(|(_, now)| now == node));
        moved
    }

    fn select(&self, node: &str) {
        let selector = json!({ "nodeSelector": { "kubernetes.io/hostname": node } });
        let patch = json!({ "spec": { "template": { "spec": selector } } }).to_string();
        self.cluster.kubectl(&["-n", NAMESPACE, "patch", "deployment", "sinfonia-gateway", "-p", &patch]);
    }
}

impl Drop for Moved<'_> {
    fn drop(&mut self) {
        self.select(&self.from);
    }
}

#[test]
fn policies_follow_the_cluster() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("helloworld", "");
    let tier2 = cluster.tier2(&["--expiry-interval", "1"]);
    let fetch = || {
        let client =
            cluster.tier3("anna", &[&url(&tier2), &application, "busybox", "wget", "-qO-", "http://helloworld/"]);
        let client = client.finish();
        assert_eq!(client.code(), 0, "{}\n{}", client.errors, tier2.log());
    };
    fetch();
    let namespaces = cluster.list("namespaces", &["-l", OURS]);
    let name = text(&namespaces[0], "/metadata/name");
    let policy_comes_to = |tier2: &Running, hold: bool, part: &str| {
        settles(
            || tier2.log(),
            || {
                let policy = cluster.kubectl(&["-n", name, "get", "networkpolicy", "sinfonia", "-o", "json"]);
                if policy.contains(part) == hold { Ok(()) } else { Err(policy) }
            },
        );
    };

    // As if by a tier2 that did not know yet what is the cluster's.
    let no_exceptions = r#"[{"op": "remove", "path": "/spec/egress/2/to/0/ipBlock/except"}]"#;
    cluster.kubectl(&["-n", name, "patch", "networkpolicy", "sinfonia", "--type=json", "-p", no_exceptions]);
    cluster.kubectl(&["annotate", "peer", name, "findcloudlet.org/cluster-networks-"]);
    policy_comes_to(&tier2, true, "\"10.0.0.0/8\"");

    let (_, old) = gateway(&cluster).unwrap();
    let nodes = cluster.list("nodes", &[]);
    let other = nodes.iter().find(|node| text(node, "/metadata/name") != old).unwrap();
    let _moved = Moved::to(&cluster, text(other, "/metadata/name"));
    policy_comes_to(&tier2, true, &format!("\"{}/32\"", node_address(other)));
    fetch();

    tier2.stop();
    let strict = cluster.tier2(&["--expiry-interval", "1", "--backend-egress", "none"]);
    policy_comes_to(&strict, false, "0.0.0.0/0");
}

/// The API server, stopped until this is dropped.
struct Silence;

impl Silence {
    fn begin() -> Self {
        let silence = Self;
        Self::signal("-STOP");
        silence
    }

    fn signal(signal: &str) {
        output_of(Command::new("docker").args([
            "exec",
            "sinfonia-control-plane",
            "pkill",
            signal,
            "-x",
            "kube-apiserver",
        ]));
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        Self::signal("-CONT");
    }
}

#[test]
fn nothing_is_lost_while_the_api_server_is_away() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let page = cluster.add_chart("helloworld", "");
    let slow = cluster.add_chart("slow-hook", "");
    let application = cluster.add_chart("nothing", "");
    // Shorter than the outage: only what is known of the client's activity keeps its deployment.
    let tier2 = cluster.tier2(&["--lease", "25", "--expiry-interval", "1"]);
    let base = url(&tier2);
    let (mut client, uid) = busy_client(&cluster, &base, &page);
    thread::scope(|scope| {
        let begun = scope.spawn(|| ask("POST", &base, (&slow, 1), &[LONG]).unwrap());
        await_mid_install(&cluster);
        let silence = Silence::begin();
        let begin = Instant::now();
        while begin.elapsed() < OUTAGE {
            unavailable(&ask("POST", &base, (&application, 2), &[]).unwrap());
            unavailable(&ask("DELETE", &base, (&page, 3), &[]).unwrap());
            fetches_more(&client);
        }
        drop(silence);
        let answer = begun.join().unwrap();
        assert!(matches!(answer.status, 200 | 503), "{answer:?}\n{}", tier2.log());
    });
    // These two ask again, so that they do not expire.
    let anna = cluster.list("cloudletdeployments", &[]).into_iter().find(|object| text(object, "/metadata/uid") == uid);
    let anna = anna.unwrap_or_else(|| panic!("the deployment of the active client is gone\n{}", tier2.log()));
    let keys = [PublicKey::from([1; 32]), PublicKey::from([2; 32]), text(&anna, "/spec/key").parse().unwrap()];
    settles(
        || tier2.log(),
        || {
            for who in [(slow.as_str(), 1), (application.as_str(), 2)] {
                let answer = ask("POST", &base, who, &[LONG]).unwrap();
                if answer.status != 200 {
                    return Err(format!("{answer:?}"));
                }
            }
            deployed(&cluster, &keys.into_iter().collect()).map(drop)
        },
    );
    fetches_more(&client);
    assert!(client.is_running(), "{}", client.log());
}

fn unavailable(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (503, "cluster-unreachable"), "{answer:?}");
    assert!(answer.retry_after.is_some(), "{answer:?}");
}
