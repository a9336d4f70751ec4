//! How answers of ours are compared with those that were recorded from the reference's tier2.
//!
//! Deliberate differences: GET of a deployment answers it (there: 500, its own validation fails) and DELETE ends it
//! (there: 405); problems carry a `code` and say what was wrong in words of their own.

use serde_json::{Value, json};

/// The recorded exchanges, each with `name`, `request` and `response`.
pub(crate) fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("tier2.json")).unwrap()
}

/// An answer of ours.
pub(crate) struct Given<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a Value,
}

/// Compares in the order of the recording.
#[derive(Default)]
pub(crate) struct Comparison {
    compared: usize,
    deployed: Value,
}

impl Comparison {
    pub(crate) fn check(&mut self, exchange: &Value, answer: &Given<'_>) {
        let name = exchange["name"].as_str().unwrap();
        let expected = &exchange["response"];
        self.compared += 1;
        match name {
            "get" => return assert_eq!((answer.status, answer.body), (200, &self.deployed), "ours answers GET"),
            "delete" => return assert_eq!(answer.status, 204, "ours answers DELETE"),
            _ => {}
        }
        assert_eq!(answer.status, expected["status"], "{name}: {}", answer.body);
        assert_eq!(answer.content_type, expected["content_type"], "{name}");
        if answer.status == 200 {
            assert_eq!(unspecific(answer.body), unspecific(&expected["body"]), "{name}");
            assert!(self.deployed.is_null() || self.deployed == *answer.body, "renewed as it was");
            self.deployed = answer.body.clone();
        } else {
            for member in ["status", "title", "type"] {
                assert_eq!(answer.body[member], expected["body"][member], "{name}");
            }
            assert!(answer.body["detail"].is_string() && answer.body["code"].is_string(), "{name}");
        }
    }

    /// Makes sure that everything was compared.
    pub(crate) fn finish(self) {
        assert_eq!(self.compared, 7);
    }
}

/// The answer without what is random, or the cloudlet's own.
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
    assert!(tunnel["endpoint"].as_str().unwrap().parse::<std::net::SocketAddr>().is_ok());
    tunnel["endpoint"] = json!("ENDPOINT");
    assert!(tunnel["publicKey"].as_str().unwrap().len() == 44);
    tunnel["publicKey"] = json!("KEY");
    body
}
