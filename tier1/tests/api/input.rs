//! Bad input gets an error that says what was wrong.

use crate::harness::{HELLOWORLD, INVALID, KEY, KEY_STANDARD, RESTRICTED, Stub, UNKNOWN, World};
use actix_web::http::Method;
use serde_json::{Value, json};

const SLASHED: &str = "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg/8YHRlHBcwV4=";

#[actix_web::test]
async fn every_form_of_a_key_is_taken() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    world.join(&stub, "a", json!({})).await;
    let hex = "4b1ee0e500393cde13f822492592 6a6990b509bb362071438709bc398b569d01".replace(' ', "");
    let forms = [
        (KEY, KEY_STANDARD),
        (&*format!("{KEY}="), KEY_STANDARD),
        (KEY_STANDARD, KEY_STANDARD),
        ("Sx7g5QA5PN4T%2BCJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE%3D", KEY_STANDARD),
        (&hex, KEY_STANDARD),
        (SLASHED, SLASHED),
        ("2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg%2F8YHRlHBcwV4=", SLASHED),
        ("2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg%2f8YHRlHBcwV4%3d", SLASHED),
        ("2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4", SLASHED),
    ];
    for (form, key) in forms {
        for slash in ["", "/"] {
            let answer = world.ask(Method::POST, &format!("{HELLOWORLD}/{form}{slash}"), &[]).await;
            assert_eq!(
                (answer.status, &answer.body[0]["ApplicationKey"]),
                (200, &key.into()),
                "{form}: {}",
                answer.body
            );
        }
    }
}

#[actix_web::test]
async fn deploy_requests() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    world.join(&stub, "a", json!({})).await;
    let good = format!("{HELLOWORLD}/{KEY}");
    let path = |rest: &str| format!("{HELLOWORLD}/{rest}");
    let query = |query: &str| format!("{good}?{query}");
    let (good, here, no_header) = (good.as_str(), ("X-Location", "here"), ("", ""));
    let cases = [
        (format!("helloworld/{KEY}"), no_header, 400, "invalid-uuid", "\"helloworld\" is not a UUID"),
        (format!("{HELLOWORLD}0/{KEY}"), no_header, 400, "invalid-uuid", "not a UUID"),
        (format!("..%2F..%2Fetc%2Fpasswd/{KEY}"), no_header, 400, "invalid-uuid", "not a UUID"),
        (path("abc"), no_header, 400, "invalid-key", "3 characters"),
        (path(&KEY[1..]), no_header, 400, "invalid-key", "42 characters"),
        (path(&format!("{KEY}AAA")), no_header, 400, "invalid-key", "46 characters"),
        (path(&"?".repeat(43).replace('?', "!")), no_header, 400, "invalid-key", "base64"),
        (path(&"z".repeat(64)), no_header, 400, "invalid-key", "hexadecimal"),
        (format!("{UNKNOWN}/{KEY}"), no_header, 404, "unknown-recipe", UNKNOWN),
        (format!("{INVALID}/{KEY}"), no_header, 500, "invalid-recipe", "chart"),
        (query("results=0"), no_header, 400, "invalid-query", "at least 1"),
        (query("results=-1"), no_header, 400, "invalid-query", "at least 1"),
        (query("results=many"), no_header, 400, "invalid-query", "whole number"),
        (query("cloudlet=nearest"), no_header, 400, "invalid-query", "not a UUID"),
        (good.to_owned(), here, 400, "invalid-location", "latitude,longitude"),
        (good.to_owned(), ("X-Location", "91,0"), 400, "invalid-location", "latitude 91"),
    ];
    for (rest, header, status, code, reason) in cases {
        let headers: Vec<_> = std::iter::once(header).filter(|(name, _)| !name.is_empty()).collect();
        for method in [Method::POST, Method::GET] {
            let answer = world.ask(method, &rest, &headers).await;
            assert!(answer.problem(status, code).contains(reason), "{rest}: {}", answer.body);
        }
    }
    assert_eq!(stub.seen().len(), 0);
    let answer = world.ask(Method::POST, good, &[("X-ClientIP", "here")]).await;
    assert_eq!((answer.status, stub.seen()[0].header("X-ClientIP")), (200, Some("127.0.0.1")));
    let answer = world.ask(Method::POST, good, &[("X-Sinfonia-Hops", "some")]).await;
    answer.problem(400, "invalid-header");
}

#[actix_web::test]
async fn recipes() {
    let world = World::start().await;
    for slash in ["", "/"] {
        let answer = world.get(&format!("/api/v1/recipe/{HELLOWORLD}{slash}")).await;
        assert_eq!((answer.status, &answer.body["version"]), (200, &json!("0.1.0")));
    }
    let cases = [
        (RESTRICTED, 403, "restricted-recipe", RESTRICTED),
        (UNKNOWN, 404, "unknown-recipe", UNKNOWN),
        ("helloworld", 404, "unknown-recipe", "helloworld"),
        ("..%2F..%2Fetc%2Fpasswd", 404, "unknown-recipe", "not a UUID"),
        (INVALID, 500, "invalid-recipe", "would leave the recipe repository"),
    ];
    for (uuid, status, code, reason) in cases {
        let answer = world.get(&format!("/api/v1/recipe/{uuid}/")).await;
        assert!(answer.problem(status, code).contains(reason), "{uuid}: {}", answer.body);
    }
}

fn report(change: impl FnOnce(&mut Value)) -> String {
    let mut report = json!({"uuid": UNKNOWN, "endpoint": "http://192.0.2.1:7000/api/v1/deploy"});
    change(&mut report);
    report.to_string()
}

#[actix_web::test]
async fn reports() {
    let world = World::start().await;
    let cases = [
        ("{".to_owned(), "invalid-body", "EOF"),
        (report(|report| report["uuid"] = json!(null)), "missing-uuid", "`uuid`"),
        (report(|report| report["uuid"] = json!("me")), "invalid-body", "not a UUID"),
        (report(|report| drop(report.as_object_mut().unwrap().remove("endpoint"))), "invalid-body", "`endpoint`"),
        (report(|report| report["endpoint"] = json!("here")), "invalid-body", "not a URL"),
        (report(|report| report["endpoint"] = json!("ftp://192.0.2.1/api/v1/deploy")), "invalid-body", "http://"),
        (report(|report| report["endpoint"] = json!("http://192.0.2.1/")), "invalid-body", "/api/v1/deploy"),
        (report(|report| report["locations"] = json!([[91, 0]])), "invalid-body", "latitude 91"),
        (report(|report| report["locations"] = json!([[1, 2, 3]])), "invalid-body", "two numbers"),
        (report(|report| report["accepted_clients"] = json!(["10.0.0.0/33"])), "invalid-body", "0..32"),
        (report(|report| report["resources"] = json!({"cpu_ratio": "much"})), "invalid-body", "f64"),
        (report(|report| report["resources"] = json!({"a\u{0}": 1})), "invalid-body", "control character"),
        (report(|report| report["resources"] = json!({"cpu_ratio": 1e300})), "invalid-body", "at most 1e18"),
        (report(|report| report["locations"] = json!(vec![[1, 2]; 101])), "invalid-body", "at most 100"),
        (report(|report| report["labels"] = json!({"a": "x".repeat(1025)})), "invalid-body", "at most 1024"),
    ];
    for (body, code, reason) in cases {
        let answer = world.send(Method::POST, "/api/v1/cloudlets/", &[], Some(body.clone())).await;
        assert!(answer.problem(400, code).contains(reason), "{body}: {}", answer.body);
    }
    let long = report(|report| report["name"] = json!("x".repeat(1 << 20)));
    let answer = world.send(Method::POST, "/api/v1/cloudlets/", &[], Some(long)).await;
    assert!(answer.problem(413, "body-too-large").contains("bytes"));
    assert_eq!(world.get("/api/v1/cloudlets/").await.body, json!([]));
}

#[actix_web::test]
async fn endpoints_that_lead_inside_are_refused() {
    let world = World::with(|config| config.allow_local_endpoints = false).await;
    let cases = [
        ("127.0.0.1", "loopback"),
        ("127.1", "127.0.0.1"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("0.0.0.0", "loopback"),
        ("169.254.169.254", "link-local"),
        ("[fe80::1]", "link-local"),
        ("localhost", "--allow-local-endpoints"),
    ];
    for (host, reason) in cases {
        let body = report(|report| report["endpoint"] = json!(format!("http://{host}:7000/api/v1/deploy")));
        let answer = world.send(Method::POST, "/api/v1/cloudlets/", &[], Some(body)).await;
        assert!(answer.problem(400, "endpoint-local").contains(reason), "{host}: {}", answer.body);
    }
    assert_eq!(world.report(&serde_json::from_str(&report(|_| ())).unwrap()).await.status, 204);
}

#[actix_web::test]
async fn this_tier1_is_no_cloudlet_of_its_own() {
    for host in ["127.0.0.1", "0.0.0.0"] {
        let world = World::with(|config| {
            config.allow_local_endpoints = false;
            config.host = host.parse().unwrap();
        })
        .await;
        let at = |port| json!({"uuid": UNKNOWN, "endpoint": format!("http://127.0.0.1:{port}/api/v1/deploy")});
        let itself = world.report(&at(world.port)).await;
        assert!(itself.problem(400, "endpoint-itself").contains("this tier1 itself"), "{host}");
        world.report(&at(world.port ^ 1)).await.problem(400, "endpoint-local");
    }
}

#[actix_web::test]
async fn other_paths_and_methods() {
    let world = World::start().await;
    assert_eq!(world.get("/").await.status, 200);
    world.get("/api/v1/nothing").await.problem(404, "not-found");
    for path in ["/api/v1/cloudlets/", &*format!("/api/v1/deploy/{HELLOWORLD}/{KEY}")] {
        world.send(Method::PUT, path, &[], None).await.problem(405, "method-not-allowed");
    }
}
