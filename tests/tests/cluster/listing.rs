//! What a person sees who looks at the cluster with their usual tools.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use sinfonia_tests::cluster::{Cluster, NAMESPACE, ask, deploy_path, output_of, url};

#[test]
fn an_object_that_cannot_be_read_is_refused() {
    let cluster = Cluster::new();
    let good = json!({
        "application": "737b5001-d27a-413f-9806-abf9bfce6746",
        "key": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
        "requestedAt": "2026-11-24T21:12:14.668340833Z",
        "clientAddress": "2001:db8::1",
    });
    let create = |spec: &Value| {
        let object = json!({
            "apiVersion": "findcloudlet.org/v1alpha1", "kind": "CloudletDeployment", "metadata": { "name": "by-hand" },
            "spec": spec,
        });
        let file = cluster.world.path("object.json");
        fs::write(&file, object.to_string()).unwrap();
        let output = Command::new("kubectl").args(["create", "--dry-run=server", "-f"]).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(create(&good), (true, String::new()));
    for field in ["application", "key", "requestedAt", "clientAddress"] {
        let mut bad = good.clone();
        bad[field] = json!("yesterday");
        let (is_made, errors) = create(&bad);
        assert!(!is_made && errors.contains(&format!("spec.{field}")), "{field}: {errors}");
    }
}

#[test]
fn usual_tools_show_what_runs() {
    let cluster = Cluster::new();
    let hello = cluster.add_chart("helloworld", "");
    let good = cluster.add_chart("good", "");
    let tier2 = cluster.tier2(&[]);
    let mut deployments = vec![];
    for (application, chart, key) in [(&hello, "helloworld", 1), (&hello, "helloworld", 2), (&good, "good", 3)] {
        let (status, answer) = ask("POST", &format!("{}{}", url(&tier2), deploy_path(application, key)), &[]);
        assert_eq!(status, 200, "{answer}\n{}", tier2.log());
        deployments.push((text(&answer[0]["DeploymentName"]), client_address(&answer[0]), chart));
    }

    let all = output_of(Command::new("helm").args(["list", "-A"]));
    // What belongs to the cloudlet itself was not deployed by it.
    let deployed = all.lines().filter(|line| line.split_whitespace().nth(1) != Some(NAMESPACE));
    let releases = deployed.collect::<Vec<_>>().join("\n");
    let peers = cluster.kubectl(&["get", "peers"]);
    let objects = cluster.kubectl(&["get", "cloudletdeployments"]);
    for (name, address, chart) in &deployments {
        let release = row(&releases, name);
        assert_eq!((release[1], release[2]), (name.as_str(), "1"), "namespace and revision: {releases}");
        assert!(release.contains(&"deployed") && release.contains(&format!("{chart}-0.1.0").as_str()), "{releases}");
        assert_eq!(row(&peers, name)[0], name);
        let object = row(&objects, name);
        assert_eq!(object[1..4], ["Deployed", name, address], "{objects}");
    }
    let headings: Vec<&str> = objects.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(headings, ["NAME", "PHASE", "NAME", "CLIENT", "EXPIRES", "MESSAGE", "AGE"]);
    for output in [&releases, &peers, &objects] {
        assert_eq!(output.lines().count(), 1 + deployments.len(), "{output}");
    }
}

/// The words of the line that has this one.
fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|words| words.contains(&name)).unwrap_or_else(|| panic!("{name} in {table}"))
}

/// Its address in the tunnel, without the length of its network.
fn client_address(deployment: &Value) -> String {
    let address = text(&deployment["TunnelConfig"]["address"][0]);
    address.split('/').next().unwrap().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
