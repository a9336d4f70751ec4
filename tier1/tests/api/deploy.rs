//! Who is asked, and what is remembered.

use crate::harness::{Behaviour, HELLOWORLD, KEY, KEY_STANDARD, Stub, UNKNOWN, World};
use actix_web::http::Method;
use futures_util::future::join_all;
use serde_json::json;
use sinfonia_telemetry::Verbosity;
use sinfonia_tier1::domain::MatcherKind;
use std::collections::HashSet;

/// Where clients are, beside the near one of [`near_and_far`].
const HERE: [(&str, &str); 1] = [("X-Location", "40,-80")];

/// Two cloudlets, of which one is where the client is, and their identities.
async fn near_and_far() -> (World, [Stub; 2], [String; 2]) {
    let world = World::start().await;
    let (near, far) = (Stub::deploying().await, Stub::deploying().await);
    let near_id = world.join(&near, "near", json!({"locations": [[40, -80]]})).await;
    let far_id = world.join(&far, "far", json!({"locations": [[50, 8]]})).await;
    (world, [near, far], [near_id, far_id])
}

#[actix_web::test]
async fn a_request_is_passed_on_with_what_is_known_about_the_client() {
    let _telemetry = sinfonia_telemetry::init("test", Verbosity::Quiet);
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let uuid = world.join(&stub, "a", json!({})).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("X-ClientIP", "128.2.0.1"), ("X-Location", "40.44,-79.94"), ("traceparent", trace)];
    let answer = world.deploy("", &headers).await;
    assert_eq!(answer.cloudlets(), [uuid.as_str()]);
    assert_eq!(answer.body[0]["ApplicationKey"], KEY_STANDARD);

    let seen = &stub.seen()[0];
    assert_eq!((&seen.method, seen.path.as_str()), (&Method::POST, &*format!("/api/v1/deploy/{HELLOWORLD}/{KEY}")));
    assert_eq!(seen.header("X-ClientIP"), Some("128.2.0.1"));
    assert_eq!(seen.header("X-Location"), Some("40.44,-79.94"));
    assert_eq!(seen.header("X-Sinfonia-Hops"), Some("1"));
    let passed_on = seen.header("traceparent").unwrap();
    assert!(passed_on.starts_with(&trace[..36]) && passed_on != trace, "a span of the same trace: {passed_on}");
}

#[actix_web::test]
async fn without_trust_the_peer_is_the_client() {
    let (world, stub) = (World::with(|config| config.trusted_proxies.clear()).await, Stub::deploying().await);
    world.join(&stub, "a", json!({})).await;
    world.deploy("", &[("X-ClientIP", "128.2.0.1")]).await.cloudlets();
    assert_eq!(stub.seen()[0].header("X-ClientIP"), Some("127.0.0.1"));
}

#[actix_web::test]
async fn as_many_results_as_there_are_cloudlets_and_three_at_most() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    for (known, wanted) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
        world.join(&stub, "a", json!({})).await;
        for results in [3, 9] {
            let answer = world.deploy(&format!("?results={results}"), &[]).await;
            let different: HashSet<_> = answer.cloudlets().into_iter().collect();
            assert_eq!((answer.cloudlets().len(), different.len()), (wanted, wanted), "{known} cloudlets");
        }
    }
    assert_eq!(world.deploy("", &[]).await.cloudlets().len(), 1);
}

#[actix_web::test]
async fn twenty_repeats_end_in_one_deployment() {
    let world = World::with(|config| config.matchers = vec![MatcherKind::Random]).await;
    let stub = Stub::deploying().await;
    for number in 0..100 {
        let endpoint = format!("http://127.0.0.1:{}/{number}/api/v1/deploy", stub.port);
        world.join(&stub, "a", json!({ "endpoint": endpoint })).await;
    }
    let together = join_all((0..10).map(|_| world.deploy("", &[]))).await;
    let mut cloudlets: HashSet<String> = together.iter().map(|answer| answer.cloudlets()[0].to_owned()).collect();
    for _ in 0..10 {
        cloudlets.insert(world.deploy("", &[]).await.cloudlets()[0].to_owned());
    }
    let paths: HashSet<_> = stub.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!((cloudlets.len(), paths.len(), stub.count(Method::POST)), (1, 1, 20));
}

#[actix_web::test]
async fn a_client_moves_when_its_cloudlet_fails_and_then_stays() {
    let (world, [near, _far], [near_id, far_id]) = near_and_far().await;
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [near_id.as_str()]);
    near.behave(Behaviour::Answers(500, "broken".to_owned()));
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [far_id.as_str()]);
    near.behave(Behaviour::Deploys);
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [far_id.as_str()]);
}

#[actix_web::test]
async fn a_cloudlet_that_no_longer_suits_is_left() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let first = world.join(&stub, "first", json!({})).await;
    assert_eq!(world.deploy("", &[]).await.cloudlets(), [first.as_str()]);
    let second = world.join(&stub, "second", json!({})).await;
    assert_eq!(world.deploy("", &[]).await.cloudlets(), [first.as_str()]);
    let rejecting = json!({"uuid": first, "endpoint": stub.endpoint(), "rejected_clients": ["127.0.0.0/8"]});
    assert_eq!(world.report(&rejecting).await.status, 204);
    assert_eq!(world.deploy("", &[]).await.cloudlets(), [second.as_str()]);
}

#[actix_web::test]
async fn a_draining_cloudlet_keeps_what_it_has() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let uuid = world.join(&stub, "a", json!({})).await;
    world.deploy("", &[]).await.cloudlets();
    let draining = json!({"uuid": uuid, "endpoint": stub.endpoint(), "draining": true});
    assert_eq!(world.report(&draining).await.status, 204);
    assert_eq!(world.deploy("", &[]).await.cloudlets(), [uuid.as_str()]);
    assert_eq!(world.deploy(&format!("?cloudlet={uuid}"), &[]).await.cloudlets(), [uuid.as_str()]);

    let other = format!("{HELLOWORLD}/2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4");
    world.ask(Method::POST, &other, &[]).await.problem(503, "no-cloudlet");
    let addressed = world.ask(Method::POST, &format!("{other}?cloudlet={uuid}"), &[]).await;
    addressed.problem(503, "cloudlet-draining");
}

#[actix_web::test]
async fn a_cloudlet_is_left_with_the_report_that_says_it_drains() {
    let (world, [near, _far], [near_id, far_id]) = near_and_far().await;
    let report = |draining| json!({"uuid": near_id, "endpoint": near.endpoint(), "locations": [[40, -80]], "draining": draining});
    for (draining, expected, key) in [
        (false, &near_id, "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4"),
        (true, &far_id, "3QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4"),
        (false, &near_id, "4QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4"),
    ] {
        assert_eq!(world.report(&report(draining)).await.status, 204);
        let path = format!("{HELLOWORLD}/{key}");
        assert_eq!(world.ask(Method::POST, &path, &HERE).await.cloudlets(), [expected.as_str()], "{draining}");
    }
}

#[actix_web::test]
async fn one_cloudlet_can_be_addressed() {
    let world = World::start().await;
    let (near, far) = (Stub::deploying().await, Stub::deploying().await);
    world.join(&near, "near", json!({"locations": [[40, -80]]})).await;
    let far_id = world.join(&far, "far", json!({"locations": [[50, 8]], "rejected_clients": ["203.0.113.0/24"]})).await;
    let query = format!("?cloudlet={far_id}");
    assert_eq!(world.deploy(&format!("{query}&results=3"), &HERE).await.cloudlets(), [far_id.as_str()]);
    assert_eq!(near.seen().len(), 0);
    // It holds the deployment now, so it is asked first.
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [far_id.as_str()]);

    let path = format!("{HELLOWORLD}/{KEY}{query}");
    assert_eq!(world.ask(Method::GET, &path, &[]).await.cloudlets(), [far_id.as_str()]);
    assert_eq!(world.ask(Method::DELETE, &path, &[]).await.status, 204);
    assert_eq!((far.count(Method::GET), far.count(Method::DELETE)), (1, 1));
    // It holds nothing any more.
    assert_ne!(world.deploy("", &HERE).await.cloudlets(), [far_id.as_str()]);

    let rejected = world.deploy(&query, &[("X-ClientIP", "203.0.113.9")]).await;
    assert!(rejected.problem(403, "client-not-accepted").contains("203.0.113.9"));
    far.behave(Behaviour::Answers(404, String::new()));
    world.ask(Method::GET, &path, &[]).await.problem(404, "no-deployment");
    for status in [405, 500] {
        far.behave(Behaviour::Answers(status, String::new()));
        world.ask(Method::GET, &path, &[]).await.problem(501, "not-supported");
        assert_eq!(world.ask(Method::DELETE, &path, &[]).await.status, 204);
    }
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let unknown = world.ask(method, &format!("{HELLOWORLD}/{KEY}?cloudlet={UNKNOWN}"), &[]).await;
        assert!(unknown.problem(404, "unknown-cloudlet").contains(UNKNOWN));
    }
}

#[actix_web::test]
async fn candidates_are_listed_in_order() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let path = |query: &str| format!("{HELLOWORLD}/{KEY}{query}");
    world.ask(Method::GET, &path(""), &[]).await.problem(404, "no-cloudlet");
    let far = world.join(&stub, "far", json!({"locations": [[50, 8]]})).await;
    let near = world.join(&stub, "near", json!({"locations": [[50, 8], [40, -80]]})).await;
    let answer = world.ask(Method::GET, &path("?results=2"), &[("X-Location", "40,-80")]).await;
    let listed: Vec<_> = answer.body.as_array().unwrap().iter().map(|info| info["uuid"].as_str().unwrap()).collect();
    assert_eq!((answer.status, listed), (200, vec![near.as_str(), far.as_str()]));
    assert_eq!(stub.seen().len(), 0, "nobody is asked");
}

#[actix_web::test]
async fn a_release_goes_to_whoever_may_hold_the_deployment() {
    let world = World::start().await;
    let (near, far) = (Stub::deploying().await, Stub::deploying().await);
    let cloudlets = [(&near, json!([[40, -80]])), (&far, json!([[50, 8]]))];
    for (stub, locations) in &cloudlets {
        world.join(stub, "a", json!({ "locations": locations })).await;
    }
    let path = format!("{HELLOWORLD}/{KEY}");
    world.deploy("", &[("X-Location", "40,-80")]).await.cloudlets();
    assert_eq!(world.ask(Method::DELETE, &path, &[]).await.status, 204);
    assert_eq!((near.count(Method::DELETE), far.count(Method::DELETE)), (1, 0));

    // Now nothing is remembered, as after a restart: everyone may hold it.
    assert_eq!(world.ask(Method::DELETE, &path, &[]).await.status, 204);
    assert_eq!((near.count(Method::DELETE), far.count(Method::DELETE)), (2, 1));

    world.deploy("", &[("X-Location", "40,-80")]).await.cloudlets();
    near.stop().await;
    let answer = world.ask(Method::DELETE, &path, &[]).await;
    assert!(answer.problem(502, "cloudlets-failed").contains("lease"));
}

#[actix_web::test]
async fn who_refuses_to_renew_may_hold_it_still() {
    let (world, [near, far], [near_id, far_id]) = near_and_far().await;
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [near_id.as_str()]);
    near.behave(Behaviour::Answers(409, r#"{"detail": "not now"}"#.to_owned()));
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [far_id.as_str()]);
    world.deploy(&format!("?cloudlet={near_id}"), &HERE).await.problem(502, "cloudlets-failed");

    near.behave(Behaviour::Deploys);
    assert_eq!(world.ask(Method::DELETE, &format!("{HELLOWORLD}/{KEY}"), &[]).await.status, 204);
    assert_eq!((near.count(Method::DELETE), far.count(Method::DELETE)), (1, 1));
}

#[actix_web::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let (world, stub) = (World::with(|config| config.rate_limit = 1).await, Stub::deploying().await);
    world.join(&stub, "a", json!({})).await;
    let answers = async |client| {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(world.deploy("", &[("X-ClientIP", client)]).await);
        }
        answers
    };
    let first = answers("192.0.2.1").await;
    let refused: Vec<_> = first.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty() && refused.len() <= 2, "{} refused", refused.len());
    let last = refused.last().unwrap();
    assert_eq!((last.status, &last.body["code"]), (429, &json!("rate-limited")));
    assert_eq!(last.retry_after.as_deref(), Some("1"));
    assert_eq!(world.deploy("", &[("X-ClientIP", "192.0.2.2")]).await.status, 200, "others are not concerned");
}
