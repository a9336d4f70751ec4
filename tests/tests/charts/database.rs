//! tier1 in two replicas on the bundled Postgres, in a namespace that enforces `restricted`.

use sinfonia_tests::cluster::ask;
use sinfonia_tests::releases::{Releases, report};

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
    let tier1 = releases.url(NAMESPACE, "finder-sinfonia-tier1");
    assert_eq!(report(&tier1, &token("report-token")), 204);

    cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", "deployment/finder-sinfonia-tier1"]);
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", "--timeout=120s", "deployment/finder-sinfonia-tier1"]);
    let authorization = format!("Bearer {}", token("client-token"));
    let (status, body) = ask("GET", &format!("{tier1}/api/v1/cloudlets/"), &[("Authorization", &authorization)]);
    assert_eq!((status, body.as_array().map(Vec::len)), (200, Some(1)), "{body}");
}
