//! tier2 dies as by SIGKILL, at each of its steps and at any moment, and the next one finishes: in the end there is what
//! was asked for, nothing is orphaned and nothing is there twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sinfonia_tests::cluster::{Cluster, OURS, output_of, url};
use sinfonia_tests::{eventually, program};

use crate::settled::{LONG, ask, forget_leader, holds, settles, text};

/// The steps of deploying, of failing and of expiring.
const DEPLOYING: [&str; 10] = [
    "allocated",
    "namespace",
    "claimed",
    "bound",
    "peer",
    "furnished",
    "installed",
    "available",
    "reachable",
    "deployed",
];
const FAILING: [&str; 2] = ["failed", "peer-removed"];
const EXPIRING: [&str; 7] =
    ["expiring", "peer-deleted", "uninstalled", "withdrawn", "expired", "peer-removed", "belongings-removed"];

/// So that deployments are taken away at once.
const SHORT: [&str; 4] = ["--lease", "1", "--expiry-interval", "1"];

const FAULT: &str = "SINFONIA_FAULT_POINT";

/// Asks for a deployment, and returns when tier2 has died at this step.
fn killed_at(cluster: &Cluster, point: &str, options: &[&str], who: (&str, u8)) {
    let dying = cluster.tier2_of("sinfonia-tier2", &[(FAULT, point)], options);
    // There may be an answer before, if it dies later.
    let _ = ask("POST", &url(&dying), who, &[LONG]);
    let ended = dying.finish();
    assert_eq!(ended.code(), 137, "{point}: {}", ended.errors);
    forget_leader(cluster);
}

fn nothing_left(cluster: &Cluster) -> Result<(), String> {
    match cluster.left() {
        (0, 0, 0) => Ok(()),
        (objects, peers, namespaces) => Err(format!("{objects} objects, {peers} peers, {namespaces} namespaces")),
    }
}

#[test]
fn the_tables_name_all_steps() {
    let mut points = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tier2/src");
    fault_points(&sources, &mut points);
    let tables: BTreeSet<String> =
        DEPLOYING.iter().chain(&FAILING).chain(&EXPIRING).map(|point| (*point).to_owned()).collect();
    assert_eq!(points, tables);
}

fn fault_points(directory: &Path, points: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fault_points(&path, points);
        } else {
            let source = fs::read_to_string(&path).unwrap();
            let named = source.split("fault::point(\"").skip(1).filter_map(|rest| rest.split('"').next());
            points.extend(named.map(str::to_owned));
        }
    }
}

#[test]
fn killed_at_each_step_of_deploying() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let mut keys = BTreeSet::new();
    for (key, point) in (1..).zip(DEPLOYING) {
        killed_at(&cluster, point, &[], (&application, key));
        keys.insert(key);
        let names = |cluster: &Cluster| -> BTreeSet<String> {
            let objects = cluster.list("cloudletdeployments", &[]);
            objects.iter().map(|object| text(object, "/status/deploymentName").to_owned()).collect()
        };
        let before = names(&cluster);
        let next = cluster.tier2(&[]);
        settles(|| format!("{point}: {}", next.log()), || holds(&cluster, &keys));
        assert_eq!(before, names(&cluster), "{point}: the name was given, so it stays");
        next.kill();
        forget_leader(&cluster);
    }
}

#[test]
fn killed_at_each_step_of_failing() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("template-error", "");
    for (key, point) in (1..).zip(FAILING) {
        killed_at(&cluster, point, &[], (&application, key));
        let next = cluster.tier2(&[]);
        settles(
            || format!("{point}: {}", next.log()),
            || match cluster.left() {
                // It stays for a while and says why.
                (objects, 0, 0) if objects == usize::from(key) => Ok(()),
                left => Err(format!("{left:?}")),
            },
        );
        let answer = ask("POST", &url(&next), (&application, key), &[LONG]).unwrap();
        assert_eq!((answer.status, answer.code()), (500, "chart-invalid"), "{answer:?}\n{}", next.log());
        next.kill();
        forget_leader(&cluster);
    }
}

#[test]
fn killed_at_each_step_of_expiring() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    for (key, point) in (1..).zip(EXPIRING) {
        killed_at(&cluster, point, &SHORT, (&application, key));
        let next = cluster.tier2(&SHORT);
        settles(|| format!("{point}: {}", next.log()), || nothing_left(&cluster));
        next.kill();
        forget_leader(&cluster);
    }
}

#[test]
fn a_client_that_comes_back_to_a_half_expired_deployment_gets_it_back() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    for (key, point) in (1..).zip(["expiring", "peer-deleted", "uninstalled", "withdrawn"]) {
        killed_at(&cluster, point, &SHORT, (&application, key));
        let objects = cluster.list("cloudletdeployments", &[]);
        let before = text(&objects[0], "/status/deploymentName");
        let next = cluster.tier2(&[]);
        let answer = ask("POST", &url(&next), (&application, key), &[LONG]).unwrap();
        assert_eq!((answer.status, answer.code()), (200, ""), "{point}: {answer:?}\n{}", next.log());
        assert_eq!(answer.name(), before, "{point}");
        settles(|| format!("{point}: {}", next.log()), || holds(&cluster, &BTreeSet::from([key])));
        assert_eq!(ask("DELETE", &url(&next), (&application, key), &[]).unwrap().status, 204);
        settles(|| next.log(), || nothing_left(&cluster));
        next.kill();
        forget_leader(&cluster);
    }
}

#[test]
fn objects_deleted_while_tier2_is_dead_take_everything_with_them() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    for (key, point) in (1..).zip(["namespace", "peer", "installed", "deployed"]) {
        killed_at(&cluster, point, &[], (&application, key));
        let namespaces = cluster.left().2;
        assert_eq!(namespaces, 1, "{point}");
        cluster.kubectl(&["delete", "cloudletdeployments", "--all", "--wait=false"]);
        settles(|| point.to_owned(), || nothing_left(&cluster));
    }
}

#[test]
fn all_is_removed_for_good_without_tier2() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    killed_at(&cluster, "deployed", &[], (&application, 1));
    // Of another program, with the label that ours have.
    let (key, value) = OURS.split_once('=').unwrap();
    let metadata = json!({ "name": "not-ours", "labels": { key: value } });
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }).to_string());
    let mut command = Command::new(program("sinfonia-tier2"));
    output_of(command.arg("remove-deployments"));
    eventually("it has gone", || cluster.left() == (0, 0, 1));
    assert!(cluster.list("namespaces", &["-l", OURS])[0]["metadata"]["deletionTimestamp"].is_null());
    // Once more, with nothing there.
    output_of(&mut command);
}
