//! Pod Security `restricted`, judged by the API server: everything satisfies it but the gateway and the client of
//! `helm test`, for reasons that are documented.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sinfonia_tests::eventually;
use sinfonia_tests::releases::Releases;

const NAMESPACE: &str = "charts-restricted";

/// The pods of a chart, by their names.
fn pods(releases: &Releases, chart: &str, values: &[&str]) -> Vec<(String, Value)> {
    let mut arguments = vec!["template", "test", chart, "--kube-version", "1.35.0"];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let file = releases.cluster.world.path("rendered.yaml");
    fs::write(&file, releases.helm(&arguments)).unwrap();
    // To have it as JSON.
    let file = file.to_str().unwrap();
    let json = releases.cluster.kubectl(&["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", file]);
    let objects = serde_json::Deserializer::from_str(&json).into_iter::<Value>().map(Result::unwrap);
    let objects = objects.flat_map(|object| match object["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![object],
    });
    objects
        .filter_map(|object| {
            let spec = match object["kind"].as_str().unwrap() {
                "Pod" => object["spec"].clone(),
                "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => object["spec"]["template"]["spec"].clone(),
                _ => return None,
            };
            Some((object["metadata"]["name"].as_str().unwrap().to_owned(), spec))
        })
        .collect()
}

/// What the API server has against a pod.
fn objection(releases: &Releases, name: &str, mut spec: Value) -> Option<String> {
    // They are not there, and have no say in this.
    for reference in ["serviceAccountName", "priorityClassName"] {
        spec.as_object_mut().unwrap().remove(reference);
    }
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec });
    let file = releases.cluster.world.path("pod.json");
    fs::write(&file, pod.to_string()).unwrap();
    let mut command = Command::new("kubectl");
    command.args(["-n", NAMESPACE, "create", "--dry-run=server", "-f"]).arg(&file).stdin(Stdio::null());
    let output = command.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}

#[test]
fn all_pods_are_restricted_but_those_that_end_tunnels() {
    let releases = Releases::new();
    let cluster = &releases.cluster;
    releases.restricted_namespace(NAMESPACE);
    eventually("the namespace has its account", || {
        cluster.list("serviceaccounts", &["-n", NAMESPACE]).iter().any(|one| one["metadata"]["name"] == "default")
    });
    let all = [
        // A volume that its StatefulSet would claim is not in the pod's own specification.
        pods(
            &releases,
            "charts/sinfonia-tier1",
            &["database.bundled.enabled=true", "database.bundled.persistence.enabled=false", "replicas=2"],
        ),
        pods(&releases, "charts/sinfonia-tier2", &["gateway.enabled=true"]),
        pods(&releases, "charts/helloworld", &["startDelaySeconds=1"]),
    ]
    .concat();
    let mut refused = Vec::new();
    for (name, spec) in all {
        if let Some(objection) = objection(&releases, &name, spec) {
            refused.push((name, objection));
        }
    }
    refused.sort();
    let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["sinfonia-gateway", "sinfonia-gateway-removal", "test-sinfonia-tier1-test", "test-sinfonia-tier2-test"],
        "{refused:#?}"
    );
    // What they are allowed to need, and no more.
    let client = ["NET_ADMIN", "hostPath", "runAsNonRoot != true", "runAsUser=0"];
    let gateway = [&client[..], &["hostNetwork=true", "hostPort"]].concat();
    for (name, objection) in &refused {
        let (_, reasons) = objection.split_once("\"restricted:latest\":").unwrap_or_else(|| panic!("{objection}"));
        let allowed = if name.starts_with("sinfonia-gateway") { &gateway[..] } else { &client[..] };
        let reasons = split_reasons(reasons);
        let others: Vec<_> =
            reasons.iter().filter(|reason| !allowed.iter().any(|word| reason.contains(word))).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
        assert!(reasons.iter().any(|reason| reason.contains("NET_ADMIN")), "{name}: {reasons:?}");
        assert!(!objection.contains("allowPrivilegeEscalation") && !objection.contains("seccomp"), "{objection}");
    }
}

/// The reasons of an objection, which stand one after the other with a comma between; parentheses hold more commas.
fn split_reasons(text: &str) -> Vec<String> {
    let (mut reasons, mut depth) = (vec![String::new()], 0);
    for character in text.trim().chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            reasons.push(String::new());
        } else if let Some(last) = reasons.last_mut() {
            last.push(character);
        }
    }
    reasons
}
