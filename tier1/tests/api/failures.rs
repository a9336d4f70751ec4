//! Cloudlets that fail do not hold up or spoil those that work.

use crate::harness::{Behaviour, HELLOWORLD, KEY, Stub, UNKNOWN, World, deployment, limits};
use actix_web::http::Method;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

const HERE: [(&str, &str); 1] = [("X-Location", "40,-80")];

fn answers(status: u16, body: impl ToString) -> Behaviour {
    Behaviour::Answers(status, body.to_string())
}

/// Every way to fail at once, with a part of what is said about it and the stable name of it.
fn ways_to_fail() -> Vec<(Behaviour, &'static str, &'static str)> {
    let ready = deployment(HELLOWORLD, KEY);
    let mut initializing = ready.clone();
    initializing["Status"] = "Initializing".into();
    let mut tunnelless = ready.clone();
    tunnelless["TunnelConfig"] = json!(null);
    vec![
        (answers(500, r#"{"detail": "helm broke"}"#), "answered 500 Internal Server Error: helm broke", "refused"),
        (answers(404, r#"{"detail": "Failed to find recipe"}"#), "Failed to find recipe", "refused"),
        (answers(201, json!([ready])), "answered 201", "refused"),
        (answers(307, ""), "answered 307", "refused"),
        (answers(200, "<html>"), "not valid", "invalid-answer"),
        (answers(200, "[]"), "no deployment", "invalid-answer"),
        (answers(200, json!([tunnelless])), "not valid", "invalid-answer"),
        (answers(200, json!([deployment(UNKNOWN, KEY)])), UNKNOWN, "invalid-answer"),
        (answers(200, json!([initializing])), "Initializing", "not-ready"),
        (answers(200, " ".repeat(2 << 20)), "longer than 1048576 bytes", "answer-too-long"),
    ]
}

#[actix_web::test]
async fn a_failing_cloudlet_is_passed_over_and_named() {
    for (behaviour, reason, code) in ways_to_fail() {
        let world = World::start().await;
        let (bad, good) = (Stub::start(behaviour).await, Stub::deploying().await);
        let bad_id = world.join(&bad, "bad", json!({"locations": [[40, -80]]})).await;
        let alone = world.deploy("", &HERE).await;
        let status = if code == "not-ready" { 504 } else { 502 };
        let detail = alone.problem(status, "cloudlets-failed");
        assert!(detail.contains("bad: ") && detail.contains(reason), "{reason}: {detail}");
        let failure = &alone.body["failures"][0];
        assert_eq!((&failure["cloudlet"], &failure["name"]), (&json!(bad_id), &json!("bad")), "{reason}");
        assert_eq!(failure["code"], code, "{reason}");

        let good_id = world.join(&good, "good", json!({"locations": [[50, 8]]})).await;
        assert_eq!(world.deploy("", &HERE).await.cloudlets(), [good_id.as_str()], "{reason}");
        let several = world.ask(Method::POST, &format!("{HELLOWORLD}/{}?results=3", "A".repeat(43)), &HERE).await;
        assert_eq!(several.cloudlets(), [good_id.as_str()], "{reason}");
    }
}

#[actix_web::test]
async fn a_closed_port_is_passed_over() {
    let world = World::start().await;
    let (gone, good) = (Stub::deploying().await, Stub::deploying().await);
    world.join(&gone, "gone", json!({"locations": [[40, -80]]})).await;
    gone.stop().await;
    let alone = world.deploy("", &HERE).await;
    assert!(alone.problem(502, "cloudlets-failed").contains("gone: cannot be reached"));
    assert_eq!(alone.body["failures"][0]["code"], "unreachable");
    let good_id = world.join(&good, "good", json!({"locations": [[50, 8]]})).await;
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [good_id.as_str()]);
}

#[actix_web::test]
async fn what_a_hanging_cloudlet_makes_in_the_end_is_released() {
    let go_on = Arc::new(Notify::new());
    let world = World::start().await;
    let (slow, good) = (Stub::start(Behaviour::Waits(Arc::clone(&go_on))).await, Stub::deploying().await);
    world.join(&slow, "slow", json!({"locations": [[40, -80]]})).await;
    let good_id = world.join(&good, "good", json!({"locations": [[50, 8]]})).await;
    let begin = Instant::now();
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [good_id.as_str()]);
    assert!(begin.elapsed() >= limits().patience && begin.elapsed() < limits().total / 2);
    assert_eq!((slow.count(Method::POST), slow.count(Method::DELETE)), (1, 0));
    go_on.notify_one();
    slow.asked(Method::DELETE).await;
    assert_eq!(good.count(Method::DELETE), 0);
    // And it stays where it is.
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [good_id.as_str()]);
}

fn not_ready() -> Behaviour {
    answers(504, r#"{"code": "deployment-not-ready", "detail": "images are pulled; it goes on, so ask again"}"#)
}

#[actix_web::test]
async fn who_asks_again_is_led_to_where_it_has_begun() {
    let world = World::start().await;
    let slow = [Stub::start(not_ready()).await, Stub::start(not_ready()).await];
    let near = world.join(&slow[0], "near", json!({"locations": [[40, -80]]})).await;
    world.join(&slow[1], "next", json!({"locations": [[41, -80]]})).await;
    assert!(world.deploy("", &HERE).await.problem(504, "cloudlets-failed").contains("images are pulled"));
    // Others that never failed.
    let others = Stub::deploying().await;
    for number in 0..10 {
        world.join(&others, &format!("other {number}"), json!({"locations": [[42, -80]]})).await;
    }
    slow[0].behave(Behaviour::Deploys);
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [near]);
    let released: usize = slow.iter().map(|stub| stub.count(Method::DELETE)).sum();
    assert_eq!((released, others.count(Method::POST)), (0, 0));
}

#[actix_web::test]
async fn what_was_begun_elsewhere_ends_when_another_deploys() {
    let world = World::start().await;
    let (slow, good) = (Stub::start(not_ready()).await, Stub::deploying().await);
    world.join(&slow, "slow", json!({"locations": [[40, -80]]})).await;
    let good_id = world.join(&good, "good", json!({"locations": [[50, 8]]})).await;
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [good_id]);
    slow.asked(Method::DELETE).await;
    assert_eq!(good.count(Method::DELETE), 0);
}

#[actix_web::test]
async fn cloudlets_that_cannot_run_a_recipe_come_later() {
    let world = World::start().await;
    let (unable, good) = (Stub::start(answers(422, r#"{"detail": "no cluster"}"#)).await, Stub::deploying().await);
    for number in 0..6 {
        world.join(&unable, &format!("unable {number}"), json!({"locations": [[40, -80]]})).await;
    }
    let good_id = world.join(&good, "good", json!({"locations": [[50, 8]]})).await;
    world.deploy("", &HERE).await.problem(502, "cloudlets-failed");
    assert_eq!(world.deploy("", &HERE).await.cloudlets(), [good_id]);
}

#[actix_web::test]
async fn hanging_cloudlets_do_not_hold_up_several_results() {
    let world = World::start().await;
    let (slow, good) = (Stub::start(Behaviour::Hangs).await, Stub::deploying().await);
    world.join(&slow, "slow", json!({"locations": [[40, -80]]})).await;
    let first = world.join(&good, "first", json!({"locations": [[41, -80]]})).await;
    let second = world.join(&good, "second", json!({"locations": [[50, 8]]})).await;
    let begin = Instant::now();
    let answer = world.deploy("?results=3", &HERE).await;
    assert_eq!(answer.cloudlets(), [first, second]);
    assert!(begin.elapsed() < limits().total / 2);
}

#[actix_web::test]
async fn when_all_hang_it_ends_with_a_timeout() {
    let world = World::with(|config| {
        config.limits.deploy = Duration::from_millis(700);
        config.limits.total = Duration::from_secs(2);
    })
    .await;
    let slow = Stub::start(Behaviour::Hangs).await;
    for name in ["one", "two"] {
        world.join(&slow, name, json!({})).await;
    }
    let answer = world.deploy("", &[]).await;
    let detail = answer.problem(504, "cloudlets-failed");
    assert!(["one: no answer within 0.7 s", "two: no answer"].iter().all(|part| detail.contains(part)), "{detail}");
}

#[actix_web::test]
async fn cloudlets_that_are_all_busy_ask_for_patience() {
    let (world, busy) = (World::start().await, Stub::start(answers(503, r#"{"detail": "full"}"#)).await);
    world.join(&busy, "busy", json!({})).await;
    let answer = world.deploy("", &[]).await;
    assert!(answer.problem(503, "cloudlets-failed").contains("busy: answered 503 Service Unavailable: full"));
    assert!(answer.retry_after.is_some());
}

#[actix_web::test]
async fn without_cloudlets_the_answer_says_so() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let answer = world.deploy("", &[]).await;
    assert!(answer.problem(503, "no-cloudlet").contains("no cloudlet is known"));
    assert!(answer.retry_after.is_some());
    world.join(&stub, "picky", json!({"accepted_clients": ["10.0.0.0/8"]})).await;
    let answer = world.deploy("", &[("X-ClientIP", "203.0.113.9")]).await;
    assert!(answer.problem(503, "no-cloudlet").contains("none of the 1 known cloudlets serves clients at 203.0.113.9"));
}

#[actix_web::test]
async fn requests_do_not_go_in_circles() {
    let world = World::start().await;
    let answer = world.deploy("", &[("X-Sinfonia-Hops", "4")]).await;
    assert!(answer.problem(508, "loop-detected").contains("leads back to a tier1"));

    let itself = json!({"uuid": UNKNOWN, "name": "itself", "endpoint": format!("{}/api/v1/deploy", world.url)});
    assert_eq!(world.report(&itself).await.status, 204);
    let answer = world.deploy("", &[]).await;
    assert!(answer.problem(502, "cloudlets-failed").contains("passed on 4 times"), "{}", answer.body);
}
