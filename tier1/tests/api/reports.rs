//! What cloudlets report, and what is listed.

use crate::harness::{KEY, Stub, UNKNOWN, World};
use serde_json::json;

#[actix_web::test]
async fn a_report_is_listed_with_its_defaults() {
    let world = World::start().await;
    let report = json!({
        "uuid": UNKNOWN,
        "endpoint": "http://192.0.2.1:7000/api/v2/deploy/",
        "resources": {"cpu_ratio": 0.25, "gpu_ratio": 37.0},
        "local_networks": ["198.51.100.7/24"],
        "something": "new",
    });
    for path in ["/api/v1/cloudlets", "/api/v1/cloudlets/"] {
        let answer = world.send(actix_web::http::Method::POST, path, &[], Some(report.to_string())).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let mut listed = world.get("/api/v1/cloudlets").await.body;
    assert!(listed[0]["last_update"].take().as_str().is_some_and(|date| date.contains('T')));
    let expected = json!([{
        "uuid": UNKNOWN,
        "name": "192.0.2.1",
        "endpoint": "http://192.0.2.1:7000/api/v1/deploy",
        "locations": [],
        "accepted_clients": ["0.0.0.0/0", "::/0"],
        "rejected_clients": [],
        "resources": {"cpu_ratio": 0.25, "gpu_ratio": 0.37},
        "last_update": null,
    }]);
    assert_eq!(listed, expected);
}

#[actix_web::test]
async fn the_latest_report_counts() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let uuid = world.join(&stub, "a", json!({"resources": {"cpu_ratio": 0.1}})).await;
    let again = json!({"uuid": uuid, "name": "a", "endpoint": stub.endpoint(), "resources": {"cpu_ratio": 0.9}});
    assert_eq!(world.report(&again).await.status, 204);
    let renamed = json!({"uuid": uuid, "name": "b", "endpoint": stub.endpoint(), "labels": {"gpu": "yes"}});
    for (report, name, load) in [(&again, "a", json!({"cpu_ratio": 0.9})), (&renamed, "b", json!({}))] {
        assert_eq!(world.report(report).await.status, 204);
        let listed = world.get("/api/v1/cloudlets/").await.body;
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!((&listed[0]["name"], &listed[0]["resources"]), (&json!(name), &load));
    }
}

#[actix_web::test]
async fn nobody_can_claim_to_be_next_to_a_client_by_a_report() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let near = world.join(&stub, "near", json!({"locations": [[40, -80]]})).await;
    world.join(&stub, "pretender", json!({"locations": [[50, 8]], "local_networks": ["0.0.0.0/0"]})).await;
    let answer = world.deploy("", &[("X-Location", "40,-80")]).await;
    assert_eq!(answer.cloudlets(), [near.as_str()]);
}

#[actix_web::test]
async fn metrics_and_health_are_there() {
    let world = World::start().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    world.deploy("", &[]).await.problem(503, "no-cloudlet");
    assert!(!world.get("/metrics").await.body.to_string().contains(KEY));
}
