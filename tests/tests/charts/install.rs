//! Two commands make tier1 and a cloudlet, and nobody without a token can use them.

use serde_json::Value;
use sinfonia_tests::cluster::{NAMESPACE, OURS, ask, deploy_path, output_of};
use sinfonia_tests::releases::{Releases, report};

/// The demo backend.
const HELLOWORLD: &str = "00000000-0000-0000-0000-000000000000";

pub(crate) const FETCH: [&str; 7] = ["timeout", "10", "busybox", "wget", "-q", "-O-", "http://helloworld/"];

#[test]
fn two_commands_make_a_cloudlet_that_serves_those_with_a_token() {
    let releases = Releases::new();
    releases.both();

    let client = releases.client("first", &["--release"], &FETCH).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);
    assert!(client.output.contains("Hello, world!"), "{}", client.output);

    let (tier1, tier2) = (releases.tier1(), releases.tier2());
    let deploy = deploy_path(HELLOWORLD, 7);
    for (method, url) in [
        ("POST", format!("{tier1}/api/v1/cloudlets/")),
        ("POST", format!("{tier1}{deploy}")),
        ("GET", format!("{tier1}/api/v1/cloudlets/")),
        ("POST", format!("{tier2}{deploy}")),
    ] {
        assert_eq!(ask(method, &url, &[]).0, 401, "{method} {url}");
        assert_eq!(ask(method, &url, &[("Authorization", "Bearer sinfonia_guessed")]).0, 401, "{method} {url}");
    }
    // Each token is good for one thing.
    let reporter = format!("Bearer {}", releases.token("report-token"));
    assert_eq!(ask("POST", &format!("{tier1}{deploy}"), &[("Authorization", &reporter)]).0, 403);
    assert_eq!(report(&tier1, &releases.token("client-token")), 403);
    let client = format!("Bearer {}", releases.token("client-token"));
    assert_eq!(ask("POST", &format!("{tier2}{deploy}"), &[("Authorization", &client)]).0, 401);
    assert_eq!(releases.cluster.list("cloudletdeployments", &[]).len(), 0);

    // No pod of tier1 holds the tokens themselves, but the one that it presents.
    let pods = releases.cluster.kubectl(&["-n", NAMESPACE, "get", "pods", "-o", "json"]);
    let logs = releases.cluster.kubectl(&["-n", NAMESPACE, "logs", "deployment/sinfonia-tier1"])
        + &releases.cluster.kubectl(&["-n", NAMESPACE, "logs", "deployment/sinfonia-tier2"]);
    for key in ["admin-token", "client-token", "report-token", "cloudlet-token"] {
        let token = releases.token(key);
        assert!(token.starts_with("sinfonia_") && token.len() == 52, "{key}");
        assert!(!pods.contains(&token) && !logs.contains(&token), "{key} is shown");
    }
}

#[test]
fn helm_test_fetches_a_page_and_fails_without_the_gateway() {
    let releases = Releases::new();
    releases.both();
    for release in ["sinfonia-tier2", "sinfonia-tier1"] {
        let report = releases.helm(&["test", release, "--namespace", NAMESPACE, "--timeout", "3m"]);
        assert!(report.contains("Succeeded"), "{report}");
    }
    releases.scale("sinfonia-gateway", 0);
    let arguments = ["test", "sinfonia-tier2", "--namespace", NAMESPACE, "--timeout", "3m"];
    let output = releases.try_helm(&arguments);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    releases.scale("sinfonia-gateway", 1);
    releases.helm(&arguments);
}

#[test]
fn tokens_stay_over_upgrades_and_can_be_replaced() {
    let releases = Releases::new();
    let values = ["service.type=NodePort"];
    releases.release("sinfonia-tier1", "charts/sinfonia-tier1", &values);
    let tokens = || ["admin-token", "client-token", "report-token", "cloudlet-token"].map(|key| releases.token(key));
    let before = tokens();
    releases.release("sinfonia-tier1", "charts/sinfonia-tier1", &[&values[..], &["rateLimit=60"]].concat());
    assert_eq!(tokens(), before);
    let removal = r#"[{"op": "remove", "path": "/data/client-token"}]"#;
    let secret = ["-n", NAMESPACE, "patch", "secret", "sinfonia-tier1-tokens", "--type=json", "-p", removal];
    releases.cluster.kubectl(&secret);
    releases.release("sinfonia-tier1", "charts/sinfonia-tier1", &values);
    let after = tokens();
    assert!(after[1] != before[1] && after[1].len() == 52);
    assert_eq!([&after[0], &after[2], &after[3]], [&before[0], &before[2], &before[3]]);
    let list = format!("{}/api/v1/cloudlets/", releases.tier1());
    // Secrets reach running pods after a minute or so; that is Kubernetes' part.
    releases.cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/sinfonia-tier1"]);
    releases.cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", "--timeout=120s", "deployment/sinfonia-tier1"]);
    sinfonia_tests::eventually("the new token counts and the old one does not", || {
        let status = |token: &str| ask("GET", &list, &[("Authorization", &format!("Bearer {token}"))]).0;
        (status(&after[1]), status(&before[1])) == (200, 401)
    });
}

#[test]
fn what_notes_say_of_another_cluster_works() {
    let releases = Releases::new();
    let notes = releases.release("sinfonia-tier1", "charts/sinfonia-tier1", &[]);
    let from = notes.find("kubectl --namespace sinfonia get secret sinfonia-tier1-cloudlet").unwrap();
    let command: String = notes[from..].lines().take(3).collect::<Vec<_>>().join("\n");
    // The other cluster is this one, without doing it.
    let command = command.replace(" --context <that cluster>", "") + " --dry-run=client --output json";
    let secret: Value =
        serde_json::from_str(&output_of(std::process::Command::new("bash").args(["-c", &command]))).unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 2, "{command}");
    assert!(secret["metadata"]["resourceVersion"].is_null() && secret["metadata"]["uid"].is_null(), "{command}");
}

/// How many deployments' namespaces there are.
pub(crate) fn deployments(releases: &Releases) -> usize {
    releases.cluster.list("namespaces", &["-l", OURS]).len()
}
