//! From the charts of the last release to the present ones and back, while a client works.

use std::path::Path;

use sinfonia_tests::cluster::NAMESPACE;
use sinfonia_tests::releases::Releases;
use sinfonia_tests::{Running, eventually};

/// Asks for the page again and again, and says each time how it went.
///
/// busybox' own time limit crashes it, as Debian builds it.
const ASK: &str = "while :; do if timeout 2 busybox wget -q -O- http://helloworld/ >/dev/null; then echo page; \
                   else echo none; fi; sleep 0.2; done";

/// Shows what a client said if the test fails.
struct Shown<'a>(&'a Running);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.0.output();
            let last: Vec<&str> = output.lines().rev().take(20).collect();
            eprintln!("the client says {last:?} (latest first) and {}", self.0.log());
        }
    }
}

/// Waits until the client has seen the page this many more times in a row.
fn sees_pages(client: &Running, what: &str) {
    let from = client.output().lines().count();
    eventually(what, || {
        let output = client.output();
        let after: Vec<&str> = output.lines().skip(from).collect();
        after.len() >= 10 && after.iter().rev().take(10).all(|line| *line == "page")
    });
}

#[test]
fn a_client_that_is_connected_keeps_its_backend_over_upgrade_and_rollback() {
    let releases = Releases::new();
    let previous = |chart: &str| {
        let package = Releases::project().join(format!("tests/releases/{chart}-0.1.0.tgz"));
        assert!(Path::new(&package).exists(), "{}", package.display());
        package.to_str().unwrap().to_owned()
    };
    releases.both_of(&previous("sinfonia-tier1"), &previous("sinfonia-tier2"));
    let client = releases.client("steady", &[], &["sh", "-c", ASK]);
    let shown = Shown(&client);
    sees_pages(&client, "pages before the upgrade");
    let backend = backend(&releases);
    let tokens = releases.token("client-token");

    let upgrade = |release: &str| {
        let chart = format!("charts/{release}");
        // A value that changes pods, so that all of them are made anew, the gateway's as well.
        let mut arguments =
            vec!["upgrade", release, &chart, "--namespace", NAMESPACE, "--reset-then-reuse-values", "--wait"];
        arguments.extend(["--timeout", "3m", "--set", "podAnnotations.upgraded=yes"]);
        if release == "sinfonia-tier2" {
            arguments.extend(["--set", "gateway.podAnnotations.upgraded=yes"]);
        }
        releases.helm(&arguments);
    };
    let fetches_a_page = || {
        // A tier1 that was replaced knows no cloudlet until the next report.
        releases.await_report();
        releases.helm(&["test", "sinfonia-tier1", "--namespace", NAMESPACE, "--timeout", "3m"]);
    };
    upgrade("sinfonia-tier1");
    upgrade("sinfonia-tier2");
    sees_pages(&client, "pages after the upgrade");
    let gateway = releases.object("deployment", "sinfonia-gateway");
    assert_eq!(gateway["spec"]["template"]["metadata"]["annotations"]["upgraded"], "yes");
    fetches_a_page();

    for release in ["sinfonia-tier2", "sinfonia-tier1"] {
        releases.helm(&["rollback", release, "1", "--namespace", NAMESPACE, "--wait", "--timeout", "3m"]);
    }
    sees_pages(&client, "pages after the rollback");
    assert_eq!(releases.token("client-token"), tokens);
    assert_eq!(self::backend(&releases), backend, "the client's backend was left alone");
    fetches_a_page();
    drop(shown);
    client.stop();
}

/// The name and age of the only deployment that is not a test's.
fn backend(releases: &Releases) -> (String, String) {
    let objects = releases.cluster.list("cloudletdeployments", &[]);
    let text = |pointer: &str| {
        let oldest = objects.iter().min_by_key(|object| object["metadata"]["creationTimestamp"].as_str()).unwrap();
        oldest.pointer(pointer).and_then(serde_json::Value::as_str).unwrap().to_owned()
    };
    (text("/status/deploymentName"), text("/metadata/uid"))
}
