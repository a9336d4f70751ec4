//! Many requests at once: nothing is made twice, nothing is lost, and what does not fit is refused clearly.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use sinfonia_tests::Running;
use sinfonia_tests::cluster::{Cluster, url};

use crate::settled::{Answer, LONG, ask, forget_leader, holds, settles};

const ONE_KEY: usize = 64;
const KEYS: u8 = 200;

/// Makes all requests in one moment; `who` are the keys, with more headers.
fn at_once(application: &str, servers: &[&Running], who: Vec<(u8, Vec<(&str, &str)>)>) -> Vec<Answer> {
    let urls: Vec<String> = servers.iter().map(|server| url(server)).collect();
    let start = Barrier::new(who.len());
    thread::scope(|scope| {
        let ask_one = |(number, (key, mut headers)): (usize, (u8, Vec<_>))| {
            let (base, start) = (&urls[number % urls.len()], &start);
            headers.push(LONG);
            scope.spawn(move || {
                start.wait();
                ask("POST", base, (application, key), &headers).unwrap()
            })
        };
        let requests: Vec<_> = who.into_iter().enumerate().map(ask_one).collect();
        requests.into_iter().map(|request| request.join().unwrap()).collect()
    })
}

fn keys(number: u8) -> Vec<(u8, Vec<(&'static str, &'static str)>)> {
    (1..=number).map(|key| (key, vec![])).collect()
}

#[test]
fn many_requests_for_one_key_to_two_replicas_make_one_deployment() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let replicas = [cluster.tier2(&[]), cluster.tier2(&[])];
    let answers = at_once(&application, &[&replicas[0], &replicas[1]], vec![(7, vec![]); ONE_KEY]);
    let log = || format!("{}\n\n{}", replicas[0].log(), replicas[1].log());
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body), "{}", log());
    }
    settles(log, || holds(&cluster, &BTreeSet::from([7])));
}

#[test]
fn many_keys_at_once_get_names_and_addresses_of_their_own() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&["--max-deployments", "300"]);
    let answers = at_once(&application, &[&tier2], keys(KEYS));
    for answer in &answers {
        assert_eq!((answer.status, answer.code()), (200, ""), "{answer:?}\n{}", tier2.log());
    }
    let names: BTreeSet<&str> = answers.iter().map(Answer::name).collect();
    assert_eq!(names.len(), usize::from(KEYS));
    settles(|| tier2.log(), || holds(&cluster, &(1..=KEYS).collect()));
    drop(tier2);
    // Kubernetes takes its time to remove so many namespaces.
    cluster.kubectl(&["delete", "cloudletdeployments", "--all", "--wait=false"]);
    settles(String::new, || match cluster.left() {
        (0, 0, 0) => Ok(()),
        left => Err(format!("{left:?} are left")),
    });
}

#[test]
fn no_more_clients_than_addresses() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    // Without the network's own address, the gateway's and the broadcast address, five are left.
    let tier2 = cluster.tier2(&["--client-network", "10.5.0.0/29"]);
    let answers = at_once(&application, &[&tier2], keys(8));
    refused(&answers, 3, (503, "no-client-address-left"), &tier2);
    // Who ends makes room.
    let lucky = u8::try_from(answers.iter().position(|answer| answer.status == 200).unwrap() + 1).unwrap();
    let unlucky = u8::try_from(answers.iter().position(|answer| answer.status == 503).unwrap() + 1).unwrap();
    let base = url(&tier2);
    assert_eq!(ask("DELETE", &base, (&application, lucky), &[]).unwrap().status, 204);
    settles(
        || tier2.log(),
        || {
            let answer = ask("POST", &base, (&application, unlucky), &[LONG]).unwrap();
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        },
    );
}

#[test]
fn no_more_deployments_than_allowed_in_total() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&["--max-deployments", "2"]);
    let answers = at_once(&application, &[&tier2], keys(6));
    refused(&answers, 4, (503, "too-many-deployments"), &tier2);
}

#[test]
fn no_more_deployments_than_allowed_of_one_client() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&["--max-deployments-per-client", "2"]);
    let of = |client, keys: std::ops::RangeInclusive<u8>| keys.map(move |key| (key, vec![("X-ClientIP", client)]));
    let answers = at_once(&application, &[&tier2], of("192.0.2.1", 1..=5).chain(of("192.0.2.2", 6..=7)).collect());
    refused(&answers[..5], 3, (429, "too-many-deployments-of-client"), &tier2);
    refused(&answers[5..], 0, (429, ""), &tier2);
}

/// So many are refused in this way, the others succeed.
fn refused(answers: &[Answer], number: usize, how: (u16, &str), tier2: &Running) {
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((good.len(), bad.len()), (answers.len() - number, number), "{answers:#?}\n{}", tier2.log());
    for answer in bad {
        assert_eq!((answer.status, answer.code()), how, "{answer:?}\n{}", tier2.log());
        assert!(answer.retry_after.is_some(), "{answer:?}");
    }
}
