//! The HTTP API in front of a cluster, for clients and for administrators.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use serde_json::{Value, json};
use sinfonia_tests::cluster::{Cluster, NAMESPACE, OURS, deploy_path, url};
use sinfonia_tests::{Running, World, eventually};

use crate::http::{Answer, Reply, Stub, send};

/// A request that may wait as long as a loaded machine needs.
const PATIENT: (&str, &str) = ("Prefer", "wait=250");

/// Asks for a deployment and expects that it is usable; its URL, and its name.
pub(crate) fn deployed(base: &str, application: &str, key: u8) -> (String, String) {
    let deployment = format!("{base}{}", deploy_path(application, key));
    let answer = send("POST", &deployment, &[PATIENT]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let (name, status) = answer.deployment();
    assert_eq!(status, "Deployed");
    (deployment, name)
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["code"].as_str().unwrap_or_default())
}

#[test]
fn who_waits_shortly_is_told_that_it_is_initializing_and_may_follow_it() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("helloworld", "values: {startDelaySeconds: 8}");
    let tier2 = cluster.tier2(&[]);
    // The request meets a cloudlet that leads.
    tier2.wait_for_log(&["leads now"]);
    let deployment = format!("{}{}", url(&tier2), deploy_path(&application, 1));
    let asked = send("POST", &deployment, &[("Prefer", "wait=2")]);
    assert_eq!(asked.status, 200, "{asked:?}\n{}", tier2.log());
    assert_eq!(asked.header("preference-applied"), "wait=2");
    let (name, status) = asked.deployment();
    assert_eq!(status, "Initializing");
    assert!(asked.body[0]["TunnelConfig"]["address"][0].is_string(), "{asked:?}");
    eventually("GET says that it is deployed", || {
        send("GET", &deployment, &[]).deployment() == (name.clone(), "Deployed".into())
    });
    let mut expected = asked.body.clone();
    expected[0]["Status"] = json!("Deployed");
    assert_eq!(send("GET", &deployment, &[]).body, expected);
}

#[test]
fn a_deployment_is_renewed_as_it_is_and_made_anew_after_its_end() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&[]);
    let (deployment, name) = deployed(&url(&tier2), &application, 1);
    let first = send("GET", &deployment, &[]).body;
    let requested = || cluster.list("cloudletdeployments", &[])[0]["spec"]["requestedAt"].clone();
    let before = requested();
    assert_eq!(send("POST", &deployment, &[]).body, first);
    assert_ne!(requested(), before);

    assert_eq!(send("DELETE", &deployment, &[]).status, 204);
    assert_eq!(code(&send("GET", &deployment, &[])), (404, "no-deployment"));
    assert_eq!(send("DELETE", &deployment, &[]).status, 204, "there is none, as wanted");
    let (_, again) = deployed(&url(&tier2), &application, 1);
    assert_ne!(again, name);
}

fn annotate(cluster: &Cluster, annotation: &str) {
    cluster.kubectl(&["-n", NAMESPACE, "annotate", "--overwrite", "lease", "sinfonia-tier2", annotation]);
}

/// Whether the cloudlet refuses new deployments, for the reason that it is drained.
fn refuses(base: &str, application: &str, key: u8) -> bool {
    let answer = send("POST", &format!("{base}{}", deploy_path(application, key)), &[PATIENT]);
    match answer.status {
        200 => false,
        503 => {
            assert_eq!(code(&answer).1, "cloudlet-draining");
            assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
            true
        }
        _ => panic!("{answer:?}"),
    }
}

/// Ends draining, however a test ends.
struct Undrained<'a>(&'a Cluster);

impl Drop for Undrained<'_> {
    fn drop(&mut self) {
        annotate(self.0, "findcloudlet.org/drain-");
    }
}

/// Keeps the only deployment's object from going, until dropped.
struct Held<'a>(&'a Cluster, String);

impl<'a> Held<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let object = cluster.list("cloudletdeployments", &[]).remove(0);
        let held = Self(cluster, object["metadata"]["name"].as_str().unwrap().to_owned());
        held.set(r#"["example.org/backup"]"#);
        held
    }

    fn set(&self, finalizers: &str) {
        let patch = format!(r#"{{"metadata":{{"finalizers":{finalizers}}}}}"#);
        self.0.kubectl(&["patch", "cloudletdeployment", &self.1, "--type=merge", "-p", &patch]);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set("null");
    }
}

#[test]
fn who_asks_while_something_holds_an_earlier_deployment_back_is_told_so_in_time() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&[]);
    let (deployment, name) = deployed(&url(&tier2), &application, 1);
    let held = Held::new(&cluster);
    cluster.kubectl(&["delete", "cloudletdeployment", &held.1, "--wait=false"]);
    let answer = send("POST", &deployment, &[("Prefer", "wait=1")]);
    assert_eq!(code(&answer), (504, "deployment-not-ready"), "{answer:?}");
    assert!(answer.body["detail"].as_str().unwrap().contains("an earlier one"), "{answer:?}");
    drop(held);
    assert_ne!(deployed(&url(&tier2), &application, 1).1, name);
}

#[test]
fn a_drained_cloudlet_keeps_what_it_has_and_takes_nothing_new() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("nothing", "");
    let tier1 = Stub::start(|_| Reply::Says(204, "text/plain", String::new()));
    let reports = tier1.url();
    let _undrained = Undrained(&cluster);
    let tier2 = cluster.tier2(&["--tier1-url", &reports, "--tier2-url", "http://192.0.2.1:5000"]);
    let base = url(&tier2);
    let (existing, name) = deployed(&base, &application, 1);
    let told = |draining: bool| {
        eventually("tier1 is told", || {
            let is = |report: &Value| report["draining"].as_bool().unwrap_or_default();
            tier1.asked().last().is_some_and(|report| is(&report.body) == draining)
        });
    };
    let drain = format!("{base}/api/v1/drain");
    told(false);
    assert_eq!(send("POST", &drain, &[]).body, json!({ "draining": true }));
    assert!(refuses(&base, &application, 2));
    assert_eq!(send("POST", &existing, &[]).deployment(), (name.clone(), "Deployed".into()));
    told(true);
    assert_eq!(send("DELETE", &drain, &[]).body, json!({ "draining": false }));
    assert!(!refuses(&base, &application, 2));
    told(false);

    annotate(&cluster, "findcloudlet.org/drain=true");
    tier2.wait_for_log(&["drain", "\"draining\":true"]);
    eventually("the annotation is seen", || refuses(&base, &application, 2) || refuses(&base, &application, 3));
    assert_eq!(send("POST", &existing, &[]).deployment(), (name, "Deployed".into()));
    told(true);
    assert_eq!(send("DELETE", &drain, &[]).status, 200);
    assert!(!refuses(&base, &application, 4));
}

/// What administrators see of the only deployment.
fn only_listed(tier2: &Running, query: &str) -> Value {
    let answer = send("GET", &format!("{}/api/v1/deployments{query}", url(tier2)), &[]);
    assert_eq!((answer.status, answer.body.as_array().map(Vec::len)), (200, Some(1)), "{answer:?}");
    answer.body[0].clone()
}

fn check_list(tier2: &Running, application: &str) {
    let (deployment, name) = deployed(&url(tier2), application, 3);
    let listed = only_listed(tier2, "");
    assert_eq!((&listed["application"], &listed["phase"]), (&json!(application), &json!("Deployed")));
    assert_eq!(listed["name"], name);
    let left = listed["seconds_left"].as_u64().unwrap();
    assert!((1..=300).contains(&left) && listed["expires"].is_string() && listed["created"].is_string(), "{listed}");
    assert!(listed.get("output").is_none(), "{listed}");
    eventually("its output is there", || {
        let output = only_listed(tier2, "?output=true")["output"].to_string();
        output.contains("hello from the backend")
    });
    assert_eq!(send("DELETE", &deployment, &[]).status, 204);
}

#[test]
fn administrators_see_what_runs_on_a_cluster() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("talker", "");
    check_list(&cluster.tier2(&[]), &application);
}

#[test]
fn administrators_see_what_runs_without_a_cluster() {
    let world = World::new();
    let script = "echo hello from the backend; exec busybox httpd -f -p 80";
    let application = world.add_script(script).to_string();
    check_list(&world.tier2("local", &[]), &application);
}

/// The address of this machine that the cluster's nodes see.
fn own_address(cluster: &Cluster) -> IpAddr {
    let nodes = cluster.list("nodes", &[]);
    let node = nodes[0]["status"]["addresses"][0]["address"].as_str().unwrap().to_owned();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((node.as_str(), 9)).unwrap();
    socket.local_addr().unwrap().ip()
}

#[test]
fn only_administrators_see_the_list_and_drain() {
    let cluster = Cluster::new();
    let paths = [("GET", "deployments"), ("POST", "drain"), ("DELETE", "drain")];
    let tier2 = cluster.tier2(&["--host", "0.0.0.0"]);
    let port = tier2.listens().port();
    let elsewhere = own_address(&cluster);
    for (method, path) in paths {
        let from_elsewhere = send(method, &format!("http://{elsewhere}:{port}/api/v1/{path}"), &[]);
        assert_eq!(code(&from_elsewhere), (403, "admin-only"), "{path}");
    }
    assert_eq!(send("GET", &format!("http://127.0.0.1:{port}/api/v1/deployments"), &[]).status, 200);
    tier2.stop();

    let token = cluster.world.path("token");
    fs::write(&token, "hush\n").unwrap();
    let tier2 = cluster.tier2(&["--admin-token-file", token.to_str().unwrap()]);
    for (method, path) in paths {
        let address = format!("{}/api/v1/{path}", url(&tier2));
        for headers in [&[][..], &[("Authorization", "Bearer huh")]] {
            let answer = send(method, &address, headers);
            assert_eq!(code(&answer), (401, "admin-token-missing"), "{path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        assert_eq!(send(method, &address, &[("Authorization", "Bearer hush")]).status, 200, "{path}");
    }
    assert!(!tier2.log().contains("hush"));
}

#[test]
fn a_recipe_limits_age_and_use() {
    let cluster = Cluster::new();
    let limits = "max_age: 20\nresources: {quota: {pods: '3', limits.memory: 1Gi}, default_limits: {memory: 128Mi}}";
    let application = cluster.add_chart("nothing", limits);
    let tier2 = cluster.tier2(&[]);
    let (deployment, name) = deployed(&url(&tier2), &application, 1);
    let quota = &cluster.list("resourcequotas", &["-n", &name])[0]["spec"]["hard"];
    let expected = json!({
        "pods": "3", "limits.memory": "1Gi", "limits.ephemeral-storage": "20Gi", "services.nodeports": "0",
        "services.loadbalancers": "0",
    });
    assert_eq!(*quota, expected);
    let limit = &cluster.list("limitranges", &["-n", &name])[0]["spec"]["limits"][0];
    assert_eq!(limit["default"]["memory"], "128Mi");
    let object = cluster.list("cloudletdeployments", &[]).remove(0);
    assert!(object["status"]["endsAt"].is_string(), "{object}");
    eventually("it ends in spite of renewals", || {
        let renewed = send("POST", &deployment, &[PATIENT]);
        renewed.status == 200 && renewed.deployment().0 != name
    });
}

#[test]
fn the_trace_of_a_request_is_found_at_what_it_made() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let cluster = Cluster::new();
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&[]);
    let deployment = format!("{}{}", url(&tier2), deploy_path(&application, 1));
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    assert_eq!(send("POST", &deployment, &[PATIENT, ("traceparent", &parent)]).status, 200);
    let objects = [("cloudletdeployments", &[][..]), ("namespaces", &["-l", OURS]), ("peers", &["-l", OURS])];
    for (kind, arguments) in objects {
        let object = cluster.list(kind, arguments).remove(0);
        let annotation = object["metadata"]["annotations"]["findcloudlet.org/traceparent"].as_str().unwrap_or_default();
        assert!(annotation.starts_with(&format!("00-{TRACE}-")), "{kind}: {object}");
    }
}
