//! tier1 in two replicas on the bundled Postgres, in a namespace that enforces `restricted`.

use serde_json::json;
use sinfonia_tests::cluster::ask;
use sinfonia_tests::releases::Releases;

const NAMESPACE: &str = "charts-database";

#[test]
fn what_was_reported_outlives_all_pods() {
    let releases = Releases::new();
    let cluster = &releases.cluster;
    releases.restricted_namespace(NAMESPACE);
    let values = [
        "database.bundled.enabled=true",
        "database.bundled.persistence.enabled=false",
        "replicas=2",
        "service.type=NodePort",
    ];
    let mut arguments = vec!["install", "finder", "charts/sinfonia-tier1", "--namespace", NAMESPACE, "--wait"];
    arguments.extend(["--timeout", "3m"]);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    releases.helm(&arguments);

    let token = |key: &str| {
        let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        cluster.kubectl(&["-n", NAMESPACE, "get", "secret", "finder-sinfonia-tier1-tokens", "-o", &template])
    };
    let url = format!("{}/api/v1/cloudlets/", releases.url(NAMESPACE, "finder-sinfonia-tier1"));
    let report = json!({ "uuid": "6a0a7b0e-52a7-4a8c-9c0b-3f1f2d7f5a11", "endpoint": "http://198.51.100.1/api/v1/deploy",
        "resources": {} });
    let agent = ureq::agent();
    let authorization = format!("Bearer {}", token("report-token"));
    let answer = agent.post(&url).header("Authorization", &authorization).content_type("application/json");
    assert_eq!(answer.send(report.to_string()).unwrap().status(), 204);

    cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/finder-sinfonia-tier1"]);
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", "--timeout=120s", "deployment/finder-sinfonia-tier1"]);
    let authorization = format!("Bearer {}", token("client-token"));
    let (status, body) = ask("GET", &url, &[("Authorization", &authorization)]);
    assert_eq!((status, body.as_array().map(Vec::len)), (200, Some(1)), "{body}");
}
