//! Uninstalling leaves nothing, whether tier2 works or not.

use std::collections::BTreeSet;
use std::process::Command;

use sinfonia_tests::cluster::{NAMESPACE, output_of};
use sinfonia_tests::eventually;
use sinfonia_tests::releases::{GATEWAY_NODE, Releases};

use crate::install::{FETCH, deployments};

#[test]
fn nothing_is_left() {
    check(|_| ());
}

#[test]
fn nothing_is_left_where_tier2_is_dead() {
    check(|releases| {
        releases.scale("sinfonia-tier2", 0);
        releases.scale("sinfonia-gateway", 0);
    });
}

/// Installs, has a client deploy and leave, and uninstalls after something has happened.
fn check(happens: impl FnOnce(&Releases)) {
    let releases = Releases::new();
    let before = settled(&releases);
    releases.both_of("charts/sinfonia-tier1", "charts/sinfonia-tier2");
    for who in ["one", "another"] {
        let client = releases.client(who, &[], &FETCH).finish();
        assert_eq!(client.code(), 0, "{}", client.errors);
    }
    assert_eq!(deployments(&releases), 2, "leases have not ended");
    happens(&releases);
    for release in ["sinfonia-tier2", "sinfonia-tier1"] {
        releases.helm(&["uninstall", release, "--namespace", NAMESPACE, "--wait", "--timeout", "2m"]);
    }
    // Nor on the gateway's node.
    let node = releases.object("node", GATEWAY_NODE);
    for part in ["annotations", "labels"] {
        let part = node["metadata"][part].to_string();
        assert!(!part.contains("findcloudlet.org") && !part.contains("kilo.squat.ai"), "{part}");
    }
    let on_node = |command: &[&str]| output_of(Command::new("docker").args(["exec", GATEWAY_NODE]).args(command));
    let interfaces = on_node(&["ls", "/sys/class/net"]);
    assert!(!interfaces.split_whitespace().any(|interface| interface == "sinfonia"), "{interfaces}");
    let tables = on_node(&["nft", "list", "tables"]);
    assert!(!tables.contains("sinfonia"), "{tables}");
    let mut left = BTreeSet::new();
    eventually("nothing is left", || {
        let now = &releases.objects() - &before;
        if now != left {
            eprintln!("still there: {now:?}");
        }
        left = now;
        left.is_empty()
    });
}

/// What is there once what earlier tests left has gone.
fn settled(releases: &Releases) -> BTreeSet<String> {
    let mut last = releases.objects();
    eventually("the cluster is quiet", || {
        let now = releases.objects();
        std::mem::replace(&mut last, now.clone()) == now
    });
    last
}
