use serde_json::json;

use super::*;

fn server() -> Server {
    Server { name: "http://t1.example/".into(), application: ApplicationId::HELLOWORLD }
}

fn deployments(status: u16, body: &str) -> Result<Vec<CloudletDeployment>, Error> {
    server().deployments(Ok(Response { status, location: None, body: body.into() }))
}

fn error(status: u16, body: &Value) -> Error {
    deployments(status, &body.to_string()).unwrap_err()
}

fn deployment() -> Value {
    json!({
        "UUID": "00000000-0000-0000-0000-000000000000",
        "ApplicationKey": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
        "Status": "Deployed",
        "DeploymentName": "vertical-module",
        "TunnelConfig": {
            "publicKey": "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=",
            "allowedIPs": ["0.0.0.0/0"],
            "endpoint": "198.51.100.2:51820",
            "address": ["10.5.8.210"],
            "dns": ["10.96.0.10", "vertical-module.svc.cluster.local"],
        },
    })
}

#[test]
fn one_broken_deployment_does_not_spoil_the_others() {
    let body = json!([{"UUID": 7}, deployment()]).to_string();
    assert_eq!(deployments(200, &body).unwrap().len(), 1);
}

#[test]
fn garbage_is_told_from_deployments() {
    let mut broken = deployment();
    broken["TunnelConfig"]["endpoint"] = "nowhere".into();
    let cases = [("<html>", "not a JSON list"), ("{}", "not a JSON list"), ("", "not a JSON list")];
    for (body, expected) in cases {
        let error = deployments(200, body).unwrap_err();
        assert!(matches!(&error, Error::Deploy { reason, .. } if reason.contains(expected)), "{body}: {error}");
    }
    let error = deployments(200, &json!([broken]).to_string()).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn nothing_deployed_is_no_cloudlet() {
    assert!(matches!(deployments(200, "[]"), Err(Error::NoCloudlet { .. })));
    let problem = json!({"title": "Not Found", "status": 404, "code": "no-cloudlet", "detail": "none is alive"});
    let error = error(404, &problem);
    assert!(matches!(error, Error::NoCloudlet { .. }));
    assert!(error.to_string().contains("none is alive"), "{error}");
}

#[test]
fn a_problem_becomes_one_sentence_that_names_each_cloudlet() {
    let problem = json!({
        "type": "about:blank", "title": "Bad Gateway", "status": 502, "code": "all-cloudlets-failed",
        "detail": "no cloudlet deployed the application.",
        "failures": [
            {"cloudlet": "one", "detail": "connection refused"},
            {"cloudlet": "two", "detail": "no answer within 30 s"},
        ],
    });
    assert_eq!(
        error(502, &problem).to_string(),
        "http://t1.example/ did not deploy application 00000000-0000-0000-0000-000000000000: no cloudlet deployed \
         the application; one: connection refused; two: no answer within 30 s (HTTP status 502)"
    );
}

#[test]
fn other_errors_keep_what_they_say() {
    let unknown = error(404, &json!({"title": "Not Found", "detail": "Deployment recipe not found"}));
    assert!(matches!(&unknown, Error::UnknownApplication { reason, .. } if reason.contains("recipe not found")));
    let reference = error(500, &json!({"title": "Error", "detail": "Something went wrong", "status": 500}));
    assert!(reference.to_string().ends_with("Something went wrong (HTTP status 500)"), "{reference}");
    let html = deployments(502, "<html>Bad Gateway</html>").unwrap_err();
    assert!(html.to_string().contains("Bad Gateway"), "{html}");
}

#[test]
fn a_redirection_names_its_target() {
    let answer = Response { status: 301, location: Some("https://t1.example/".into()), body: Vec::new() };
    let error = server().deployments(Ok(answer)).unwrap_err();
    assert!(error.to_string().contains("https://t1.example/"), "{error}");
}

#[test]
fn what_others_wrote_cannot_drive_the_terminal() {
    let nasty = error(400, &json!({"detail": format!("a\u{1b}[2Jb\nc {}", "x".repeat(5000))})).to_string();
    assert!(!nasty.contains('\u{1b}') && !nasty.contains('\n'));
    assert!(nasty.len() < 1000);
}

#[test]
fn nobody_there_is_told_from_no_answer() {
    let unreachable = server().deployments(Err(HttpError::Unreachable("connection refused".into())));
    assert!(matches!(unreachable, Err(Error::Unreachable { .. })));
    let silent = server().deployments(Err(HttpError::Timeout(std::time::Duration::from_secs(40))));
    assert!(silent.unwrap_err().to_string().contains("no answer within 40 s"));
}

#[test]
fn hostile_answers_are_told_in_one_bounded_line() {
    let hostile = format!("\u{1b}]0;x\u{7}\r\n\u{9b}31m\u{202e}{}", "x".repeat(100_000));
    let mut broken = deployment();
    broken["Status"] = hostile.as_str().into();
    let failures: Vec<_> = (0..90_000).map(|n| json!({"name": format!("c{n}"), "reason": &hostile[..10]})).collect();
    let redirect = Response { status: 302, location: Some(hostile.clone()), body: Vec::new() };
    for error in [
        error(200, &json!([broken])),
        error(200, &json!(hostile)),
        error(503, &json!({"detail": hostile})),
        error(503, &json!({"detail": "no", "failures": failures})),
        server().deployments(Ok(redirect)).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.len() < 1000 && !text.contains(char::is_control) && !text.contains('\u{202e}'), "{text:?}");
    }
}

#[test]
fn more_deployments_than_may_be_asked_for_are_left_out() {
    let body = json!(vec![deployment(); 2000]).to_string();
    assert_eq!(deployments(200, &body).unwrap().len(), 3);
}
