//! Something beside tier2 itself dies in mid-work: another replica that led, helm, a namespace. Afterwards all is as it was
//! asked for.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sinfonia_tests::cluster::{Cluster, url};
use sinfonia_tests::{Running, children};

use crate::settled::{LONG, ask, await_mid_install, forget_leader, holds, settles};

const LEADS: &str = "this replica leads now";

/// Two replicas, of which the first leads, and a request to the second, during which `disturb` happens to the first.
fn leader_lost_in_mid_install(disturb: impl FnOnce(&Cluster, Running, &Running)) {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("slow-hook", "");
    let leader = cluster.tier2(&[]);
    leader.wait_for_log(&[LEADS]);
    let other = cluster.tier2(&[]);
    let base = url(&other);
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask("POST", &base, (&application, 1), &[LONG]).unwrap());
        await_mid_install(&cluster);
        disturb(&cluster, leader, &other);
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.code()), (200, ""), "{answer:?}\n{}", other.log());
    });
    settles(|| other.log(), || holds(&cluster, &BTreeSet::from([1])));
}

#[test]
fn another_replica_takes_over_from_a_leader_that_was_killed() {
    leader_lost_in_mid_install(|_, leader, other| {
        assert!(!other.log().contains(LEADS), "{}", other.log());
        leader.kill();
        other.wait_for_log(&[LEADS]);
    });
}

#[test]
fn a_leader_that_wakes_up_too_late_disturbs_nothing() {
    leader_lost_in_mid_install(|cluster, leader, other| {
        leader.signal("STOP");
        other.wait_for_log(&[LEADS]);
        settles(|| other.log(), || holds(cluster, &BTreeSet::from([1])));
        leader.signal("CONT");
        leader.wait_for_log(&["no longer leads"]);
    });
}

#[test]
fn helm_killed_in_mid_install_is_started_again() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("slow-hook", "");
    let tier2 = cluster.tier2(&[]);
    let base = url(&tier2);
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask("POST", &base, (&application, 1), &[LONG]).unwrap());
        await_mid_install(&cluster);
        for process in children(tier2.pid()) {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap();
            assert_eq!(name.trim(), "helm");
            kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL).unwrap();
        }
        tier2.wait_for_log(&["Helm was killed by signal 9"]);
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.code()), (200, ""), "{answer:?}\n{}", tier2.log());
    });
    settles(|| tier2.log(), || holds(&cluster, &BTreeSet::from([1])));
}

#[test]
fn a_namespace_that_somebody_deletes_is_made_again() {
    let cluster = Cluster::new();
    forget_leader(&cluster);
    let application = cluster.add_chart("nothing", "");
    let tier2 = cluster.tier2(&[]);
    let base = url(&tier2);
    let first = ask("POST", &base, (&application, 1), &[LONG]).unwrap();
    cluster.kubectl(&["delete", "namespace", first.name(), "--wait=false"]);
    settles(
        || tier2.log(),
        || {
            holds(&cluster, &BTreeSet::from([1]))?;
            let now = ask("POST", &base, (&application, 1), &[LONG]).unwrap();
            if now.name() == first.name() { Err("it is still the first one".to_owned()) } else { Ok(()) }
        },
    );
}
