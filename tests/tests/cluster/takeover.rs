//! What another tier2 left in the cluster, by the labels that the reference's gives its peers.

use std::fs;

use serde_json::json;
use sinfonia_tests::cluster::{Cluster, OURS, url};
use sinfonia_tests::eventually;
use sinfonia_wire::{ApplicationId, PublicKey, cluster::key_label};

use crate::http::send;

/// A peer as the reference makes it, and the namespace of its release. The reference does not label that one; somebody
/// who wants to have it taken over does.
fn left_behind(cluster: &Cluster, name: &str, application: &str, key: PublicKey, address: &str) {
    let labels = json!({
        "findcloudlet.org": "deployment",
        "findcloudlet.org/client": address,
        "findcloudlet.org/key": key_label(&key),
        "findcloudlet.org/uuid": application,
    });
    let annotations = json!({ "findcloudlet.org/created": "2026-11-22T04:54:16+00:00" });
    let metadata = json!({ "name": name, "labels": labels, "annotations": annotations });
    let spec = json!({ "allowedIPs": [format!("{address}/32")], "persistentKeepalive": 10, "publicKey": key });
    let peer = json!({ "apiVersion": "kilo.squat.ai/v1alpha1", "kind": "Peer", "metadata": metadata, "spec": spec });
    let metadata = json!({ "name": name, "labels": { "findcloudlet.org": "deployment" } });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": [namespace, peer] }).to_string());
}

#[test]
fn a_peer_of_the_reference_is_taken_over_and_a_broken_one_is_left_with_the_reason() {
    let cluster = Cluster::new();
    let recipe = cluster.add_chart("nothing", "");
    let recipes = cluster.world.path("recipes");
    let application = ApplicationId::HELLOWORLD.to_string();
    fs::copy(recipes.join(format!("{recipe}.yaml")), recipes.join(format!("{application}.yaml"))).unwrap();
    let (key, other) = (PublicKey::from([40; 32]), PublicKey::from([41; 32]));
    left_behind(&cluster, "vertical-module", &application, key, "10.5.8.210");
    left_behind(&cluster, "broken-label", "helloworld", other, "10.5.8.211");

    let tier2 = cluster.tier2(&[]);
    tier2.wait_for_log(&["vertical-module", "taken over from an earlier tier2"]);
    let reason = ["broken-label", "not taken over", "its label findcloudlet.org/uuid is missing or not valid"];
    tier2.wait_for_log(&reason);

    let deployment = format!("{}/api/v1/deploy/{application}/{}", url(&tier2), key.url_safe());
    let found = send("GET", &deployment, &[]);
    assert_eq!(found.deployment(), ("vertical-module".into(), "Deployed".into()));
    assert_eq!(found.body[0]["TunnelConfig"]["address"], json!(["10.5.8.210"]));
    assert_eq!(found.body[0]["Created"], "2026-11-22T04:54:16+00:00");
    assert_eq!(send("POST", &deployment, &[]).deployment(), found.deployment(), "renewed");
    assert_eq!(send("DELETE", &deployment, &[]).status, 204);
    let names = |kind: &str| -> Vec<String> {
        let objects = cluster.list(kind, &["-l", OURS]);
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().into()).collect()
    };
    for kind in ["peers", "namespaces"] {
        eventually("it goes as one of ours", || names(kind) == ["broken-label"]);
    }
}
