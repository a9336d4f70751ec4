//! What the operator configures.

use crate::harness::{Stub, World, recipes};
use serde_json::json;
use sinfonia_tier1::Config;
use std::{fs, net::TcpListener, path::PathBuf};

#[actix_web::test]
async fn configured_cloudlets_serve_local_addresses_and_networks() {
    let (directory, stub) = (tempfile::tempdir().unwrap(), Stub::deploying().await);
    let file = directory.path().join("cloudlets.yaml");
    let text = format!(
        "---\nname: far\nendpoint: {0}\nlocation: [40, -80]\n---\n---\nname: local\nendpoint: {0}\nlocal_networks: \
         [128.2.0.0/16]\n",
        stub.endpoint()
    );
    fs::write(&file, text).unwrap();
    let world = World::with(|config| {
        config.allow_local_endpoints = false;
        config.cloudlets = Some(file);
    })
    .await;
    let listed = world.get("/api/v1/cloudlets/").await.body;
    let uuid_of = |name: &str| {
        let info = listed.as_array().unwrap().iter().find(|info| info["name"] == name).unwrap();
        assert_eq!(info["last_update"], json!(null), "it has not reported");
        info["uuid"].as_str().unwrap()
    };
    let answer = world.deploy("", &[("X-ClientIP", "128.2.0.1"), ("X-Location", "40,-80")]).await;
    assert_eq!(answer.cloudlets(), [uuid_of("local")]);
    let stolen = json!({"uuid": uuid_of("local"), "endpoint": "http://192.0.2.1/api/v1/deploy"});
    world.report(&stolen).await.problem(409, "configured-cloudlet");
}

async fn refused(change: impl FnOnce(&mut Config)) -> String {
    let recipes = recipes();
    let recipes = recipes.path().to_str().unwrap().to_owned();
    let mut config = Config { port: 0, recipes, workers: Some(1), ..Config::default() };
    change(&mut config);
    sinfonia_tier1::start(config).await.unwrap_err().to_string()
}

#[actix_web::test]
async fn what_cannot_work_is_said_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let yaml = file("bad.yaml", "endpoint: http://a.example/api/v1/deploy\n---\nendpoint: nothing\n");
    let error = refused(|config| config.cloudlets = Some(yaml)).await;
    let parts = ["bad.yaml", "document 2", "endpoint", "line 3", "not a URL"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");

    let error = refused(|config| config.cloudlets = Some("/nonexistent.yaml".into())).await;
    assert!(error.contains("/nonexistent.yaml"), "{error}");
    let error = refused(|config| config.recipes = "/nonexistent".to_owned()).await;
    assert!(error.contains("/nonexistent") && error.contains("existing directory"), "{error}");
    let error = refused(|config| config.recipes = "ftp://example.org/".to_owned()).await;
    assert!(error.contains("ftp"), "{error}");
    let database = file("bad.mmdb", "no database");
    let error = refused(|config| config.geoip = Some(database)).await;
    assert!(error.contains("bad.mmdb") && error.contains(".mmdb format"), "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = refused(|config| config.port = port).await;
    assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
}
