//! Helm upgrades the custom resources, and with them nothing is lost.

use std::fs;
use std::process::Command;

use serde_json::json;
use sinfonia_tests::cluster::output_of;
use sinfonia_tests::releases::Releases;
use sinfonia_wire::PublicKey;

use crate::install::FETCH;

const CRD: &str = "cloudletdeployments.findcloudlet.org";

#[test]
fn an_upgrade_brings_a_new_custom_resource_and_keeps_deployments() {
    let releases = Releases::new();
    releases.both();
    let client = releases.client("early", &[], &FETCH).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);
    let before = releases.cluster.list("cloudletdeployments", &[]);

    // The chart of a version to come, whose resource shows one thing more.
    let chart = releases.cluster.world.path("sinfonia-tier2");
    output_of(Command::new("cp").arg("-r").arg(Releases::project().join("charts/sinfonia-tier2")).arg(&chart));
    let file = chart.join("files/crds/cloudletdeployments.yaml");
    let definition = fs::read_to_string(&file).unwrap();
    let from = "  - additionalPrinterColumns:\n";
    let column = "    - {name: Key, type: string, jsonPath: .spec.key}\n";
    assert!(definition.contains(from));
    fs::write(&file, definition.replace(from, &format!("{from}{column}"))).unwrap();
    let chart = chart.to_str().unwrap();
    let upgrade = ["upgrade", "sinfonia-tier2", chart, "--namespace", "sinfonia", "--reuse-values", "--wait"];
    releases.helm(&upgrade);
    assert!(columns(&releases).contains(&"Key".to_owned()));
    let after = releases.cluster.list("cloudletdeployments", &[]);
    assert_eq!(after[0]["metadata"]["uid"], before[0]["metadata"]["uid"]);
    assert_eq!(after[0]["status"]["deploymentName"], before[0]["status"]["deploymentName"]);

    releases.helm(&["rollback", "sinfonia-tier2", "1", "--namespace", "sinfonia", "--wait"]);
    assert!(!columns(&releases).contains(&"Key".to_owned()));
    assert_eq!(releases.cluster.list("cloudletdeployments", &[]).len(), 1);
}

#[test]
fn manifests_can_be_taken_over() {
    let releases = Releases::new();
    let crds = Releases::project().join("deploy/kubernetes/crds");
    releases.cluster.kubectl(&["apply", "--server-side", "-f", crds.to_str().unwrap()]);
    let install = ["install", "sinfonia-tier2", "charts/sinfonia-tier2", "--namespace", "sinfonia"];
    let refused = releases.try_helm(&install);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("invalid ownership metadata"), "{errors}");
    let gateway = ["--set", "gateway.enabled=true", "--take-ownership", "--wait", "--timeout", "3m"];
    releases.helm(&[&install[..], &gateway].concat());
    releases.helm(&["uninstall", "sinfonia-tier2", "--namespace", "sinfonia", "--wait"]);
    // The peers were somebody else's from the beginning.
    let left: Vec<_> = releases.cluster.list("crds", &[]);
    let names: Vec<_> = left.iter().filter_map(|crd| crd["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&"peers.kilo.squat.ai") && !names.contains(&CRD), "{names:?}");
}

#[test]
fn a_gateway_that_is_switched_off_leaves_peers_and_is_announced_no_more() {
    let releases = Releases::new();
    releases.release("sinfonia-tier2", "charts/sinfonia-tier2", &["gateway.enabled=true"]);
    let announced = |releases: &Releases| {
        let nodes = releases.cluster.list("nodes", &[]);
        nodes.iter().filter(|node| node["metadata"].to_string().contains("findcloudlet.org/gateway")).count()
    };
    assert_eq!(announced(&releases), 1);
    let spec =
        json!({ "allowedIPs": ["10.9.0.1/32"], "publicKey": PublicKey::from([9; 32]), "persistentKeepalive": 10 });
    let peer = json!({ "apiVersion": "kilo.squat.ai/v1alpha1", "kind": "Peer", "metadata": { "name": "of-kilo" }, "spec": spec });
    releases.cluster.apply(&peer.to_string());

    releases.release("sinfonia-tier2", "charts/sinfonia-tier2", &["gateway.enabled=false"]);
    assert_eq!(announced(&releases), 0);
    releases.cluster.kubectl(&["get", "peer", "of-kilo"]);
    releases.helm(&["uninstall", "sinfonia-tier2", "--namespace", "sinfonia", "--wait"]);
    releases.cluster.kubectl(&["get", "peer", "of-kilo"]);
    releases.cluster.kubectl(&["delete", "crd", "peers.kilo.squat.ai"]);
}

fn columns(releases: &Releases) -> Vec<String> {
    let text = releases.cluster.kubectl(&[
        "get",
        "crd",
        CRD,
        "-o",
        "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}",
    ]);
    text.split_whitespace().map(str::to_owned).collect()
}
