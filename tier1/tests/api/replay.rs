//! Exchanges recorded from the reference implementation (`reference.json`), with ours beside.

use crate::harness::{Answer, Behaviour, Stub, World};
use actix_web::http::Method;
use serde_json::{Value, json};

/// Where we differ on purpose: name, our status, why. Everything else has the recorded status.
const DIFFERENT: [(&str, u16, &str); 8] = [
    ("deploy with no cloudlet", 503, "a reason and a time to try again instead of 500"),
    ("report without trailing slash", 204, "taken instead of redirected"),
    ("recipe, restricted", 403, "restricted recipes are not given away"),
    ("recipe, unknown", 404, "not an error of the server"),
    ("deploy, unknown recipe", 404, "not an error of the server"),
    ("candidates", 200, "the reference has not implemented it"),
    ("delete", 204, "the reference has not implemented it"),
    ("report without uuid", 400, "the same, but as problem+json"),
];
/// Requests that get more answers than recorded: the reference wants the client in every accepted network at once.
const BOTH_CLOUDLETS: [&str; 2] = ["deploy, 2 results", "deploy, 9 results"];

#[actix_web::test]
async fn recorded_exchanges() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("reference.json")).unwrap();
    let deployments = &recorded.iter().find(|exchange| exchange["name"] == "deploy").unwrap()["response"]["body"];
    let stub = Stub::start(Behaviour::Answers(200, deployments.to_string())).await;
    let world = World::start().await;
    for exchange in &recorded {
        let name = exchange["name"].as_str().unwrap();
        let answer = send(&world, &exchange["request"], &stub).await;
        let response = &exchange["response"];
        let different = DIFFERENT.iter().find(|(known, ..)| *known == name);
        let expected =
            different.map_or_else(|| response["status"].as_u64().unwrap(), |(_, status, _)| u64::from(*status));
        assert_eq!(u64::from(answer.status), expected, "{name}: {}", answer.body);
        if answer.status >= 400 {
            assert_eq!(answer.content_type, "application/problem+json", "{name}");
        } else if different.is_none() {
            compare(name, &answer, &response["body"], &stub);
        }
    }
}

async fn send(world: &World, request: &Value, stub: &Stub) -> Answer {
    let method: Method = request["method"].as_str().unwrap().parse().unwrap();
    let headers = request["headers"].as_object();
    let headers: Vec<_> =
        headers.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    let body = match &request["body"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        body => Some(body.to_string().replace("127.0.0.1:7000", &format!("127.0.0.1:{}", stub.port))),
    };
    world.send(method, request["path"].as_str().unwrap(), &headers, body).await
}

fn compare(name: &str, answer: &Answer, recorded: &Value, stub: &Stub) {
    let mut ours = answer.body.clone();
    match name {
        "index" | "report" | "report with everything" => (),
        "list" => {
            let mut recorded = recorded.clone();
            for info in recorded.as_array_mut().unwrap() {
                info["endpoint"] = stub.endpoint().into();
                info["last_update"] = json!(null);
            }
            // The reference forgets IPv6, and did not take the last report, which was without resources.
            recorded[0]["accepted_clients"] = json!(["0.0.0.0/0", "::/0"]);
            recorded[0]["resources"] = json!({});
            for info in ours.as_array_mut().unwrap() {
                info["last_update"] = json!(null);
                let added = ["uuid", "name"].map(|field| info.as_object_mut().unwrap().remove(field));
                assert!(added.iter().all(Option::is_some));
            }
            assert_eq!(ours, recorded);
        }
        _ if name.starts_with("deploy") => {
            let mut recorded = recorded[0].clone();
            // An address alone says the same.
            recorded["TunnelConfig"]["address"] = json!(["10.5.0.2"]);
            let list = ours.as_array_mut().unwrap();
            assert_eq!(list.len(), if BOTH_CLOUDLETS.contains(&name) { 2 } else { 1 }, "{name}");
            for deployment in list {
                assert!(deployment.as_object_mut().unwrap().remove("Cloudlet").is_some(), "{name}");
                assert_eq!((&*deployment, answer.content_type.as_str()), (&recorded, "application/json"), "{name}");
            }
        }
        _ => assert_eq!(&ours, recorded, "{name}"),
    }
}
