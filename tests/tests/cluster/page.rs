//! A client fetches the page of its own backend by name, through the gateway.

use std::thread;

use sinfonia_tests::cluster::{Cluster, OURS, url};

const FETCH: [&str; 7] = ["timeout", "10", "busybox", "wget", "-q", "-O-", "http://helloworld/"];

const NODES: [&str; 2] = ["sinfonia-control-plane", "sinfonia-worker"];

/// How many clients come in all, and how many at a time: two small nodes start no more of them within a request's wait.
const CLIENTS: usize = 100;
const AT_ONCE: usize = 10;

#[test]
fn the_page_comes_through_the_gateway_to_a_user_without_privileges() {
    let cluster = Cluster::new();
    let tier2 = cluster.tier2(&[]);
    let url = url(&tier2);
    for node in NODES {
        let values = format!("values: {{nodeSelector: {{kubernetes.io/hostname: {node}}}, page: I am on {node}}}");
        let application = cluster.add_chart("helloworld", &values);
        let client = cluster.tier3(node, &[&[url.as_str(), &application][..], &FETCH].concat()).finish();
        assert_eq!(client.code(), 0, "{node}: {}\n{}", client.errors, tier2.log());
        assert_eq!(client.output, format!("I am on {node}"));
        let selector = format!("{OURS},findcloudlet.org/uuid={application}");
        let namespace = cluster.list("namespaces", &["-l", &selector]).remove(0);
        let pods = cluster.list("pods", &["-n", namespace["metadata"]["name"].as_str().unwrap()]);
        assert_eq!(pods[0]["spec"]["nodeName"], node);
    }
}

#[test]
fn the_page_is_there_at_the_instant_of_the_answer() {
    let cluster = Cluster::new();
    let application = cluster.add_chart("helloworld", "values: {startDelaySeconds: 5}");
    let tier2 = cluster.tier2(&[]);
    let url = url(&tier2);
    let fetch = |number: usize| {
        let arguments = [&["--release", url.as_str(), &application][..], &FETCH].concat();
        let client = cluster.tier3_in_the_end(&format!("client-{number}"), &arguments);
        let is_there = client.code() == 0 && client.output.contains("Hello, world!");
        (!is_there).then(|| format!("client {number}: {} {}", client.code(), client.errors))
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE)
            .map(|lane| scope.spawn(move || (lane..CLIENTS).step_by(AT_ONCE).filter_map(fetch).collect::<Vec<_>>()))
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {CLIENTS}: {failures:#?}\n{}", failures.len(), tier2.log());
}
