//! Leases end by idleness that is known: not while nobody can tell, and not while the client uses its tunnel.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sinfonia_tests::cluster::{Cluster, deploy_path, output_of, url};
use sinfonia_tests::eventually;
use sinfonia_wire::PublicKey;

use crate::http::{Asked, Reply, Stub, send};

/// The client's key is this byte 32 times.
const KEY: u8 = 7;

/// How a Prometheus does that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Silent,
    Nonsense,
    /// It says that the client never came, and that a quarter of everything is used.
    Healthy,
}

fn prometheus(mood: &Arc<Mutex<Mood>>) -> Stub {
    let mood = mood.clone();
    Stub::start(move |asked| match *mood.lock().unwrap() {
        Mood::Silent => Reply::Silence,
        Mood::Nonsense => Reply::Says(200, "text/html", "<html>Welcome</html>".into()),
        Mood::Healthy => Reply::Says(200, "application/json", healthy(asked).to_string()),
    })
}

fn healthy(asked: &Asked) -> Value {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let value = match &asked.path {
        path if path.contains("timestamp") => now,
        path if path.contains("wireguard") => 0.0,
        _ => 0.25,
    };
    let labels = json!({ "public_key": PublicKey::from([KEY; 32]) });
    let series = json!({ "metric": labels, "value": [now, value.to_string()] });
    json!({ "status": "success", "data": { "resultType": "vector", "result": [series] } })
}

/// How often the log says this at this level.
fn said(log: &str, level: &str, words: &str) -> usize {
    let level = format!("\"level\":\"{level}\"");
    log.lines().filter(|line| line.contains(&level) && line.contains(words)).count()
}

#[test]
fn nothing_expires_while_prometheus_fails_and_the_idle_do_when_it_is_back() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("nothing", "");
    let tier1 = Stub::start(|_| Reply::Says(204, "text/plain", String::new()));
    let mood = Arc::new(Mutex::new(Mood::Silent));
    let mut prometheus = prometheus(&mood);
    prometheus.close();
    let (figures, reports) = (prometheus.url(), tier1.url());
    let lease = ["--lease", "2", "--expiry-interval", "1"];
    let sources = ["--prometheus", &figures, "--tier1-url", &reports, "--tier2-url", "http://192.0.2.1:5000"];
    let tier2 = cluster.tier2(&[&lease[..], &sources].concat());
    let deployment = format!("{}{}", url(&tier2), deploy_path(&application, KEY));
    let deployed = send("POST", &deployment, &[("Prefer", "wait=250")]);
    assert_eq!(deployed.status, 200, "{deployed:?}");
    // What is asked for again has a lease like all others.
    assert_eq!(send("POST", &deployment, &[]).deployment(), deployed.deployment());

    for next in [None, Some(Mood::Silent), Some(Mood::Nonsense)] {
        if let Some(next) = next {
            *mood.lock().unwrap() = next;
            prometheus.open();
        }
        // What tier1 is told next was found out now, and many looks at the leases fit in between.
        let before = tier1.asked().len();
        eventually("another report", || tier1.asked().len() > before);
        let resources = tier1.asked().last().unwrap().body["resources"].clone();
        assert_eq!(resources, json!({}), "{next:?}");
        let listed = send("GET", &format!("{}/api/v1/deployments", url(&tier2)), &[]).body;
        assert_eq!((&listed[0]["phase"], &listed[0]["seconds_left"]), (&json!("Deployed"), &json!(0)), "{next:?}");
        assert_eq!(send("GET", &deployment, &[]).deployment(), deployed.deployment(), "{next:?}");
        assert_eq!(next.is_some(), !prometheus.asked().is_empty(), "{next:?}");
        prometheus.asked().clear();
        prometheus.close();
    }
    let consequences = ["so no deployment expires for lack of it", "the cluster's resources are not reported"];
    for consequence in consequences {
        assert_eq!(said(&tier2.log(), "WARN", consequence), 1, "{}", tier2.log());
    }

    *mood.lock().unwrap() = Mood::Healthy;
    prometheus.open();
    eventually("the idle deployment expires", || send("GET", &deployment, &[]).status == 404);
    eventually("nothing is left of it", || cluster.left() == (0, 0, 0));
    eventually("resources are reported", || {
        tier1.asked().last().is_some_and(|report| report.body["resources"]["cpu_ratio"] == 0.25)
    });
    for consequence in consequences {
        assert_eq!(said(&tier2.log(), "INFO", consequence), 1, "{}", tier2.log());
    }
}

/// Unix time of an RFC 3339 text.
fn unix(time: &Value) -> u64 {
    output_of(Command::new("date").args(["+%s", "-d", time.as_str().unwrap()])).trim().parse().unwrap()
}

#[test]
fn a_client_that_uses_its_tunnel_keeps_its_deployment_beyond_the_lease() {
    const LEASE: Duration = Duration::from_secs(20);
    let cluster = Cluster::new();
    let application = cluster.add_chart("helloworld", "");
    let lease = LEASE.as_secs().to_string();
    let tier2 = cluster.tier2(&["--lease", &lease, "--expiry-interval", "1"]);
    let url = url(&tier2);
    let stop = cluster.world.path("stop");
    let use_it = format!("until [ -e {} ]; do busybox wget -q -O /dev/null http://helloworld/; done", stop.display());
    let client = cluster.tier3("anna", &[&url, &application, "sh", "-c", &use_it]);
    eventually("it is deployed", || {
        let objects = cluster.list("cloudletdeployments", &[]);
        objects.first().is_some_and(|object| object["status"]["phase"] == "Deployed")
    });
    let requested = cluster.list("cloudletdeployments", &[])[0]["spec"]["requestedAt"].clone();
    let last = || cluster.list("cloudletdeployments", &[]).remove(0);
    eventually("its activity is written down, beyond the lease", || {
        let activity = &last()["status"]["lastActivity"];
        activity.is_string() && unix(activity) > unix(&requested) + LEASE.as_secs()
    });
    let object = last();
    let status = &object["status"];
    assert_eq!((&object["spec"]["requestedAt"], &status["phase"]), (&requested, &json!("Deployed")));
    let left = unix(&status["expiresAt"]) - unix(&status["lastActivity"]);
    assert!(left.abs_diff(LEASE.as_secs()) <= 1, "{status}");

    fs::write(stop, "").unwrap();
    let client = client.finish();
    assert_eq!(client.code(), 0, "{}\n{}", client.errors, tier2.log());
    tier2.wait_for_log(&["expiring"]);
    eventually("the idle deployment is gone", || cluster.left() == (0, 0, 0));
}
