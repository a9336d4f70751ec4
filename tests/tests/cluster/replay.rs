//! Programs of the reference on the other side: its recorded exchanges, and a tier1 that behaves like its own.

use std::fs;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sinfonia_tests::cluster::{Cluster, url};
use sinfonia_tests::eventually;
use sinfonia_wire::ApplicationId;

use crate::compare::{Comparison, Given, recorded};
use crate::http::{Asked, Reply, Stub, send};

/// A recipe of the helloworld chart under the uuid that everyone knows.
fn add_helloworld(cluster: &Cluster) -> String {
    let recipe = cluster.add_chart("helloworld", "");
    let recipes = cluster.world.path("recipes");
    let application = ApplicationId::HELLOWORLD.to_string();
    fs::copy(recipes.join(format!("{recipe}.yaml")), recipes.join(format!("{application}.yaml"))).unwrap();
    application
}

#[test]
fn exchanges_recorded_from_the_reference_are_answered_alike() {
    let cluster = Cluster::new();
    add_helloworld(&cluster);
    let tier2 = cluster.tier2(&[]);
    let base = url(&tier2);
    let mut comparison = Comparison::default();
    for exchange in recorded() {
        let request = &exchange["request"];
        let path = format!("{base}{}", request["path"].as_str().unwrap());
        let answer = send(request["method"].as_str().unwrap(), &path, &[]);
        let content_type = answer.header("content-type");
        comparison.check(&exchange, &Given { status: answer.status, content_type, body: &answer.body });
    }
    comparison.finish();
}

/// The reference's tier1, as `tier1.json` shows it: strict about slashes and what it needs, deaf to what it does not know.
fn like_the_reference(asked: &Asked, cloudlet: &Mutex<Option<Value>>) -> Reply {
    let problem = |status: u16, title: &str, detail: &str| {
        let body = json!({ "detail": detail, "status": status, "title": title, "type": "about:blank" });
        Reply::Says(status, "application/problem+json", body.to_string())
    };
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/api/v1/cloudlets") => Reply::Redirect("/api/v1/cloudlets/".into()),
        ("POST", "/api/v1/cloudlets/") if asked.body.is_null() => {
            problem(400, "Bad Request", "Request body is not valid JSON")
        }
        ("POST", "/api/v1/cloudlets/") if asked.body["endpoint"].is_null() => {
            problem(400, "Bad Request", "'endpoint' is a required property")
        }
        ("POST", "/api/v1/cloudlets/") if asked.body["uuid"].is_null() => {
            Reply::Says(400, "application/json", "\"Bad Request, missing UUID\"".into())
        }
        ("POST", "/api/v1/cloudlets/") => {
            *cloudlet.lock().unwrap() = Some(asked.body.clone());
            Reply::Says(204, "application/json", String::new())
        }
        ("POST", path) if path.starts_with("/api/v1/deploy/") => {
            let Some(known) = cloudlet.lock().unwrap().clone() else {
                return problem(500, "Error", "Something went wrong");
            };
            let endpoint = known["endpoint"].as_str().unwrap();
            let path = path.trim_start_matches("/api/v1/deploy").split('?').next().unwrap();
            let answer = send("POST", &format!("{endpoint}{path}"), &[("X-ClientIP", "127.0.0.1")]);
            match answer.status {
                200 => Reply::Says(200, "application/json", answer.body.to_string()),
                _ => problem(500, "Error", "Something went wrong"),
            }
        }
        _ => problem(404, "Not Found", "Not Found"),
    }
}

#[test]
fn a_tier1_like_the_reference_s_is_reported_to_and_passes_clients_on() {
    let cluster = Cluster::new();
    let application = add_helloworld(&cluster);
    let cloudlet = Arc::new(Mutex::new(None));
    let tier1 = {
        let cloudlet = cloudlet.clone();
        Stub::start(move |asked| like_the_reference(asked, &cloudlet))
    };
    let port = sinfonia_tests::free_port();
    let (here, there) = (format!("http://127.0.0.1:{port}"), tier1.url());
    let port = port.to_string();
    let addresses = ["--port", &port, "--tier2-url", &here, "--tier1-url", &there];
    let tier2 = cluster
        .tier2(&[&addresses[..], &["--name", "Edge", "--label", "site=roof", "--kubelet-insecure-tls"]].concat());
    let ratio = || cloudlet.lock().unwrap().as_ref()?["resources"]["cpu_ratio"].as_f64();
    eventually("a report with what the cluster has to spare is taken", || ratio().is_some());
    let known = cloudlet.lock().unwrap().clone().unwrap();
    assert_eq!(known["endpoint"], format!("{here}/api/v1/deploy"));
    assert_eq!((&known["name"], &known["labels"]["site"]), (&json!("Edge"), &json!("roof")));
    assert!((0.0..=1.0).contains(&ratio().unwrap()), "{known}");
    assert!(tier1.asked().iter().all(|asked| asked.path == "/api/v1/cloudlets/"), "no detour");

    let fetch = ["timeout", "10", "busybox", "wget", "-q", "-O-", "http://helloworld/"];
    let client = cluster.tier3("anna", &[&[there.as_str(), &application][..], &fetch].concat()).finish();
    assert_eq!(client.code(), 0, "{}\n{}", client.errors, tier2.log());
    assert!(client.output.contains("Hello, world!"), "{}", client.output);
}
