//! The exchanges recorded from the reference's tier2, replayed.
//!
//! Deliberate differences: GET of a deployment answers it (there: 500, its own validation fails) and DELETE ends it
//! (there: 405); problems carry a `code` and say what was wrong in words of their own.

use serde_json::{Value, json};

use crate::server::{Home, Server};

#[actix_web::test]
async fn recorded_exchanges_are_answered_alike() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("../reference/tier2.json")).unwrap();
    let home = Home::new();
    let server = Server::in_home(&home).await;
    let mut replayed = vec![];
    let mut deployed = Value::Null;
    for exchange in &recorded {
        let name = exchange["name"].as_str().unwrap();
        let request = &exchange["request"];
        let method = request["method"].as_str().unwrap().parse().unwrap();
        let answer = server.request(method, request["path"].as_str().unwrap()).await;
        replayed.push(name);
        let expected = &exchange["response"];
        match name {
            "get" => {
                assert_eq!((answer.status, &answer.body), (200, &deployed), "ours answers GET");
                continue;
            }
            "delete" => {
                assert_eq!(answer.status, 204, "ours answers DELETE");
                continue;
            }
            _ => {}
        }
        assert_eq!(answer.status, expected["status"], "{name}");
        assert_eq!(answer.content_type, expected["content_type"], "{name}");
        if answer.status == 200 {
            assert_eq!(unspecific(&answer.body), unspecific(&expected["body"]), "{name}");
            assert!(deployed.is_null() || deployed == answer.body, "renewed as it was");
            deployed = answer.body;
        } else {
            for member in ["status", "title", "type"] {
                assert_eq!(answer.body[member], expected["body"][member], "{name}");
            }
            assert!(answer.body["detail"].is_string() && answer.body["code"].is_string(), "{name}");
        }
    }
    assert_eq!(replayed.len(), 7);
    server.stop().await;
}

/// The answer without what is random.
fn unspecific(body: &Value) -> Value {
    let mut body = body.clone();
    let deployment = &mut body[0];
    let name = deployment["DeploymentName"].as_str().unwrap().to_owned();
    deployment["DeploymentName"] = json!("NAME");
    let created = deployment["Created"].as_str().unwrap();
    assert!(created.len() == 25 && created.ends_with("+00:00") && created.contains('T'), "{created}");
    deployment["Created"] = json!("CREATED");
    let tunnel = &mut deployment["TunnelConfig"];
    assert!(tunnel["address"][0].as_str().unwrap().starts_with("10.5."));
    tunnel["address"][0] = json!("ADDRESS");
    for domain in tunnel["dns"].as_array_mut().unwrap() {
        *domain = json!(domain.as_str().unwrap().replace(&name, "NAME"));
    }
    body
}
