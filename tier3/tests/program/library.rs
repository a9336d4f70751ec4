//! The library as another program uses it.

use serde_json::json;
use sinfonia_tier3::{Command, Error, Exit, KeyCache, Tier3};
use sinfonia_wire::ApplicationId;

use crate::support::{Answer, PROGRAM, Stub, tier1};

fn client(stub: &Stub, home: &tempfile::TempDir) -> Tier3 {
    Tier3::builder(stub.url().parse().unwrap(), ApplicationId::HELLOWORLD)
        .keys(KeyCache::at(home.path().join("keys")))
        .helper(Some(PROGRAM.into()))
        .release(true)
        .build()
        .unwrap()
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::test]
async fn each_step_can_be_taken_from_any_thread() {
    let stub = tier1().await;
    let home = tempfile::tempdir().unwrap();
    let client = client(&stub, &home);
    let deployments = is_send(client.deploy()).await.unwrap();
    assert_eq!(deployments.list().len(), 1);
    let tunnel = is_send(deployments.connect()).await.unwrap();
    assert!(!tunnel.handshake_time().is_zero());
    assert!(tunnel.namespace().helper_pid().is_some());
    let command = Command { program: "sh".into(), args: vec!["-c".into(), "exit 9".into()], ..Command::default() };
    assert_eq!(is_send(tunnel.run(command)).await.unwrap(), Exit::Code(9));
    is_send(tunnel.close()).await;
    assert!(stub.lines()[1].starts_with("DELETE "), "{:?}", stub.lines());
    let tunnel = is_send(client.connect()).await.unwrap();
    drop(tunnel);
}

#[tokio::test]
async fn cloudlets_are_listed_without_deploying() {
    let stub = Stub::start(|head| {
        assert!(head.starts_with("GET "), "{head}");
        Answer::json(&json!([{"endpoint": "http://192.0.2.7:5000/api/v1/deploy", "name": "near"}]))
    });
    let home = tempfile::tempdir().unwrap();
    let cloudlets = is_send(client(&stub, &home).discover()).await.unwrap();
    assert_eq!(cloudlets[0].name.as_deref(), Some("near"));

    let stub = Stub::start(|_| Answer::problem(404, &json!({"code": "no-cloudlet", "detail": "none"})));
    assert!(matches!(client(&stub, &home).discover().await, Err(Error::NoCloudlet { .. })));
}
