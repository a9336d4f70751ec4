//! Deployments over HTTP: made, shared, renewed, ended, kept.

use std::{fs, time::Duration};

use awc::http::Method;
use futures_util::future::join_all;
use serde_json::Value;
use sinfonia_credentials::TokenSource;
use sinfonia_tier2::{Config, driver::InstallError};

use crate::{
    fake::{Fake, id},
    server::{Answer, HELLOWORLD, Home, KEY, Server, break_state, deploy_path, mend_state, request_with},
};

fn key(n: u8) -> String {
    id(n).key.url_safe()
}

/// Waits until the pretended machine is as wanted.
async fn until(fake: &Fake, wanted: impl Fn(&crate::fake::World) -> bool) {
    let reached = async {
        while !wanted(&fake.world()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap();
}

#[actix_web::test]
async fn simultaneous_requests_make_one_deployment() {
    let server = Server::alone().await;
    let answers: Vec<Answer> = join_all((0..16).map(|_| server.post(HELLOWORLD, KEY))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert_eq!(server.fake.world().installs, 1);
    server.stop().await;
}

#[actix_web::test]
async fn with_a_deploy_token_only_who_presents_it_is_served() {
    let home = Home::new();
    let file = home.state().with_extension("token");
    fs::write(&file, "old\nnew\n").unwrap();
    let deploy_token = Some(TokenSource::file("--deploy-token-file", &file).unwrap());
    let server = Server::start(Config { deploy_token, ..home.config() }, &Fake::default()).await.unwrap();
    let path = deploy_path(HELLOWORLD, KEY);
    for authorization in [None, Some("Bearer other"), Some("Bearer"), Some("Basic new")] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let answer = request_with(server.address, method, &path, authorization).await;
            assert_eq!((answer.status, &answer.body["code"]), (401, &"deploy-token-missing".into()));
        }
    }
    assert_eq!(server.fake.world().installs, 0);
    for (method, token, status) in [
        (Method::POST, "old", 200),
        (Method::POST, "new", 200),
        (Method::GET, "new", 200),
        (Method::DELETE, "new", 204),
    ] {
        let answer = request_with(server.address, method, &path, Some(&format!("Bearer {token}"))).await;
        assert_eq!(answer.status, status);
    }
    server.stop().await;
}

#[actix_web::test]
async fn clients_get_separate_names_and_addresses() {
    let server = Server::alone().await;
    let keys: Vec<String> = (0..20).map(key).collect();
    let answers = join_all(keys.iter().map(|key| server.post(HELLOWORLD, key))).await;
    let distinct = |pointer: &str| {
        let values = answers.iter().map(|answer| answer.body.pointer(pointer).unwrap().as_str().unwrap());
        values.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!((distinct("/0/DeploymentName"), distinct("/0/TunnelConfig/address/0")), (20, 20));
    server.stop().await;
}

#[actix_web::test]
async fn a_deleted_deployment_is_gone_and_deleting_nothing_is_fine() {
    let server = Server::alone().await;
    let path = deploy_path(HELLOWORLD, KEY);
    assert_eq!(server.request(Method::DELETE, &path).await.status, 204);
    assert_eq!(server.request(Method::POST, &path).await.status, 200);
    assert_eq!(server.request(Method::DELETE, &path).await.status, 204);
    let gone = server.request(Method::GET, &path).await;
    assert_eq!((gone.status, &gone.body["code"]), (404, &"no-deployment".into()));
    assert!(server.fake.world().live.is_empty());
    server.stop().await;
}

#[actix_web::test]
async fn deleting_ends_an_installation_under_way() {
    let server = Server::alone().await;
    server.fake.world().hold = true;
    let path = deploy_path(HELLOWORLD, KEY);
    let delete = async {
        until(&server.fake, |world| world.pending.len() == 1).await;
        server.request(Method::DELETE, &path).await
    };
    let (posted, deleted) = tokio::join!(server.post(HELLOWORLD, KEY), delete);
    assert_eq!((posted.status, &posted.body["code"]), (409, &"deployment-deleted".into()));
    assert_eq!(deleted.status, 204);
    assert!(server.fake.world().named.is_empty());
    server.stop().await;
}

#[actix_web::test]
async fn a_request_waits_only_so_long_and_says_what_for() {
    let home = Home::new();
    let config = Config { request_wait: Duration::from_millis(500), ..home.config() };
    let server = Server::start(config, &Fake::default()).await.unwrap();
    server.fake.world().hold = true;
    let late = server.post(HELLOWORLD, KEY).await;
    assert_eq!((late.status, &late.body["code"]), (504, &"deployment-not-ready".into()));
    assert!(late.retry_after.is_some());
    let detail = late.body["detail"].as_str().unwrap();
    assert!(detail.contains("waiting for the test") && detail.contains("a line of the backend"), "{detail}");
    let path = deploy_path(HELLOWORLD, KEY);
    assert_eq!(server.request(Method::GET, &path).await.body[0]["Status"], "Initializing");
    server.fake.world().pending.pop_first().unwrap().1.send(Ok(())).unwrap();
    until(&server.fake, |world| world.backends.len() == 1).await;
    assert_eq!(server.post(HELLOWORLD, KEY).await.status, 200);
    assert_eq!(server.fake.world().installs, 1, "it went on meanwhile");
    server.stop().await;
}

#[actix_web::test]
async fn failures_have_their_reason_and_leave_nothing() {
    let server = Server::alone().await;
    server.fake.world().hold = true;
    let exited = InstallError::Exited { status: "exit status 3".into(), output: "; its last output: no".into() };
    let never = InstallError::NeverReady { seconds: 120, reason: "waiting".into() };
    for (failure, status, code) in [
        (InstallError::Command("x: command not found".into()), 500, "command-not-started"),
        (exited, 500, "backend-exited"),
        (never, 504, "backend-never-ready"),
        (InstallError::Platform("no namespaces".into()), 503, "cannot-run-backends"),
    ] {
        let decide = async {
            until(&server.fake, |world| world.pending.len() == 1).await;
            let (_, verdict) = server.fake.world().pending.pop_first().unwrap();
            verdict.send(Err(failure.clone())).unwrap();
        };
        let (answer, ()) = tokio::join!(server.post(HELLOWORLD, KEY), decide);
        assert_eq!((answer.status, &answer.body["code"]), (status, &code.into()));
        assert_eq!(answer.content_type, "application/problem+json");
        assert_eq!(answer.body["detail"], failure.to_string());
        assert_eq!(answer.body["output"][0], "a line of the backend");
        until(&server.fake, |world| world.named.is_empty()).await;
    }
    server.stop().await;
}

#[actix_web::test]
async fn a_backend_that_dies_is_made_again_under_the_same_name() {
    let server = Server::alone().await;
    let first = server.post(HELLOWORLD, KEY).await;
    let (_, backend) = server.fake.world().backends.pop_first().unwrap();
    backend.send("killed by signal 9".to_owned()).unwrap();
    until(&server.fake, |world| world.installs == 2).await;
    assert_eq!(server.post(HELLOWORLD, KEY).await.body, first.body);
    server.stop().await;
}

#[actix_web::test]
async fn there_is_room_for_so_many_only() {
    for (config, code) in [
        (Config { max_deployments: 2, ..Home::new().config() }, "too-many-deployments"),
        (
            Config { client_networks: vec!["10.7.0.0/29".parse().unwrap()], ..Home::new().config() },
            "no-client-address-left",
        ),
    ] {
        let home = Home::new();
        let config = Config { recipes: home.config().recipes, state_directory: home.state(), ..config };
        let server = Server::start(config, &Fake::default()).await.unwrap();
        let refused = loop {
            let n = u8::try_from(server.fake.world().installs).unwrap();
            let answer = server.post(HELLOWORLD, &key(n)).await;
            if answer.status != 200 {
                break answer;
            }
        };
        assert_eq!((refused.status, &refused.body["code"]), (503, &code.into()));
        assert!(refused.retry_after.is_some());
        assert_eq!(server.post(HELLOWORLD, &key(0)).await.status, 200, "those that are there stay usable");
        server.stop().await;
    }
}

#[actix_web::test]
async fn what_cannot_be_remembered_is_not_made() {
    let home = Home::new();
    let server = Server::in_home(&home).await;
    break_state(&home.state());
    let refused = server.post(HELLOWORLD, KEY).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &"state-directory-not-writable".into()));
    assert!(refused.body["detail"].as_str().unwrap().contains("deployments.json"));
    assert_eq!(server.fake.world().installs, 0);
    assert_eq!(server.request(Method::GET, &deploy_path(HELLOWORLD, KEY)).await.status, 404);
    mend_state(&home.state());
    assert_eq!(server.post(HELLOWORLD, KEY).await.status, 200);
    server.stop().await;
}

#[actix_web::test]
async fn a_restart_keeps_uuid_name_address_and_creation() {
    let home = Home::new();
    let before = Server::in_home(&home).await;
    let (cloudlet, deployed) = (before.cloudlet, before.post(HELLOWORLD, KEY).await);
    let fake = before.fake.clone();
    before.stop().await;
    assert!(fake.world().live.is_empty(), "deployments end with tier2");
    let after = Server::start(home.config(), &fake).await.unwrap();
    assert_eq!(after.cloudlet, cloudlet);
    until(&fake, |world| world.backends.len() == 1).await;
    assert_eq!(after.post(HELLOWORLD, KEY).await.body, deployed.body);
    after.stop().await;
}

#[actix_web::test]
async fn a_deployment_whose_lease_ended_does_not_come_back() {
    let home = Home::new();
    let server = Server::in_home(&home).await;
    server.post(HELLOWORLD, KEY).await;
    server.stop().await;
    let file = home.state().join("deployments.json");
    let mut saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    saved["deployments"][0]["lease_end"] = "2001-01-01T00:00:00Z".into();
    fs::write(&file, saved.to_string()).unwrap();
    let server = Server::in_home(&home).await;
    assert_eq!(server.request(Method::GET, &deploy_path(HELLOWORLD, KEY)).await.status, 404);
    server.stop().await;
}

#[actix_web::test]
async fn stopping_answers_those_who_wait() {
    let server = Server::alone().await;
    server.fake.world().hold = true;
    let (address, fake) = (server.address, server.fake.clone());
    let path = deploy_path(HELLOWORLD, KEY);
    let stop = async {
        until(&fake, |world| world.pending.len() == 1).await;
        server.stop().await;
    };
    let (answer, ()) = tokio::join!(crate::server::request(address, Method::POST, &path), stop);
    assert_eq!((answer.status, &answer.body["code"]), (503, &"stopping".into()));
    assert!(fake.world().live.is_empty());
}

#[actix_web::test]
async fn leases_end_by_the_periodic_job() {
    let home = Home::new();
    let config =
        Config { lease: Duration::from_millis(100), expiry_interval: Duration::from_millis(20), ..home.config() };
    let server = Server::start(config, &Fake::default()).await.unwrap();
    assert_eq!(server.post(HELLOWORLD, KEY).await.status, 200);
    until(&server.fake, |world| world.named.is_empty()).await;
    assert_eq!(server.request(Method::GET, &deploy_path(HELLOWORLD, KEY)).await.status, 404);
    server.stop().await;
}

#[actix_web::test]
async fn probes_and_metrics_answer() {
    let server = Server::alone().await;
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.request(Method::GET, path).await.status, 200, "{path}");
    }
    server.stop().await;
}
