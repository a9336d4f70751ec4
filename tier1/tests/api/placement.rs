//! What recipes, load and failures have to say about where clients go.

use crate::harness::{Behaviour, CHOOSY, HELLOWORLD, KEY, LOOP, Stub, World};
use actix_web::http::Method;
use serde_json::json;

/// Other clients than the usual one.
const KEYS: [&str; 3] = [
    "2QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4",
    "3QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4",
    "4QWuQZAw7zplxAbI6j08Qi2DXmWY2Zg_8YHRlHBcwV4",
];
const HERE: [(&str, &str); 1] = [("X-Location", "40,-80")];

#[actix_web::test]
async fn a_recipe_chooses_its_cloudlets() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let join = |name, lat: f64, more: serde_json::Value| {
        let mut members = json!({"locations": [[lat, -80]]});
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.join(&stub, name, members)
    };
    let path = format!("{CHOOSY}/{KEY}");
    let silent = join("silent", 40.1, json!({})).await;
    let nobody = world.ask(Method::POST, &path, &HERE).await;
    assert!(nobody.problem(503, "no-cloudlet").contains("explain=true"));
    let addressed = world.ask(Method::POST, &format!("{path}?cloudlet={silent}"), &HERE).await;
    addressed.problem(409, "requires-not-met");

    join("busy", 40.2, json!({"resources": {"cpu_ratio": 0.9}})).await;
    let plain = join("plain", 40.3, json!({"resources": {"cpu_ratio": 0.1}})).await;
    let gold = join("gold", 45.0, json!({"resources": {"cpu_ratio": 0.1}, "labels": {"tier": "gold"}})).await;
    let answer = world.ask(Method::GET, &format!("{path}?results=3"), &HERE).await;
    let listed: Vec<_> = answer.body.as_array().unwrap().iter().map(|info| info["uuid"].as_str().unwrap()).collect();
    assert_eq!(listed, [gold.as_str(), &plain]);
    assert_eq!(world.ask(Method::POST, &path, &HERE).await.cloudlets(), [gold.as_str()]);

    // A deployment is not driven away by the load that it makes.
    let busy = json!({"uuid": gold, "name": "gold", "endpoint": stub.endpoint(), "locations": [[45.0, -80]],
        "resources": {"cpu_ratio": 0.95}, "labels": {"tier": "gold"}});
    assert_eq!(world.report(&busy).await.status, 204);
    assert_eq!(world.ask(Method::POST, &path, &HERE).await.cloudlets(), [gold.as_str()]);
    let other = world.ask(Method::POST, &format!("{CHOOSY}/{}", KEYS[0]), &HERE).await;
    assert_eq!(other.cloudlets(), [plain.as_str()]);
}

#[actix_web::test]
async fn an_expression_that_may_take_long_is_refused_by_name() {
    let world = World::start().await;
    for method in [Method::POST, Method::GET] {
        let answer = world.ask(method, &format!("{LOOP}/{KEY}"), &[]).await;
        let detail = answer.problem(500, "invalid-recipe");
        for part in [LOOP, "requires", "['a'].exists(x, x in cloudlet.labels)", "comprehension"] {
            assert!(detail.contains(part), "{detail}");
        }
    }
}

#[actix_web::test]
async fn clients_spread_before_the_next_report() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let at = json!({"locations": [[40, -80]], "resources": {"cpu_ratio": 0.2}});
    for name in ["a", "b", "c"] {
        world.join(&stub, name, at.clone()).await;
    }
    let mut cloudlets = Vec::new();
    for key in KEYS {
        let answer = world.ask(Method::POST, &format!("{HELLOWORLD}/{key}"), &HERE).await;
        cloudlets.push(answer.cloudlets()[0].to_owned());
    }
    cloudlets.sort_unstable();
    cloudlets.dedup();
    assert_eq!(cloudlets.len(), 3, "{cloudlets:?}");
}

#[actix_web::test]
async fn a_cloudlet_that_failed_is_spared_for_a_while() {
    let world = World::start().await;
    let (near, far) = (Stub::start(Behaviour::Answers(500, "broken".to_owned())).await, Stub::deploying().await);
    world.join(&near, "near", json!({"locations": [[40, -80]]})).await;
    let far_id = world.join(&far, "far", json!({"locations": [[50, 8]]})).await;
    for key in KEYS {
        let answer = world.ask(Method::POST, &format!("{HELLOWORLD}/{key}"), &HERE).await;
        assert_eq!(answer.cloudlets(), [far_id.as_str()]);
    }
    assert_eq!(near.count(Method::POST), 1, "only the first client was sent there");
    let explained = world.ask(Method::GET, &format!("{HELLOWORLD}/{KEY}?explain=true"), &HERE).await;
    assert!(explained.body["candidates"][1]["reasons"].to_string().contains("set back"), "{}", explained.body);
}

#[actix_web::test]
async fn an_explanation_lists_candidates_and_dropped_ones() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let path = format!("{CHOOSY}/{KEY}");
    let good = world.join(&stub, "good", json!({"locations": [[40, -80]], "resources": {"cpu_ratio": 0.25}})).await;
    for number in 0..30 {
        world.join(&stub, &format!("full {number}"), json!({"resources": {"cpu_ratio": 1.0}})).await;
    }
    let answer = world.ask(Method::GET, &format!("{path}?explain=true"), &HERE).await;
    let body = &answer.body;
    assert_eq!(
        (answer.status, &body["known"], &body["candidates"][0]["cloudlet"]["uuid"]),
        (200, &json!(31), &json!(good))
    );
    assert_eq!(body["matchers"], json!(["requirements", "load", "network", "location", "random"]));
    assert_eq!(body["requires"], "cloudlet.resources.cpu_ratio < 0.8");
    assert!(body["candidates"][0]["resources_age"].as_f64().is_some_and(|age| (0.0..20.0).contains(&age)), "{body}");
    let reasons = body["candidates"][0]["reasons"].to_string();
    assert!(reasons.contains("unknown, the lowest score") && reasons.contains("0.25 reported"), "{reasons}");
    assert_eq!((body["candidates"].as_array().unwrap().len(), body["dropped"].as_array().unwrap().len()), (1, 20));
    assert_eq!(body["dropped"][0]["code"], "requires-not-met");
    assert_eq!(stub.seen().len(), 0, "nobody is asked");

    world.ask(Method::POST, &path, &HERE).await.cloudlets();
    let held = world.ask(Method::GET, &format!("{path}?explain=true"), &HERE).await.body;
    assert!(held["candidates"][0]["reasons"][0].as_str().unwrap().contains("holds"), "{held}");
    assert!(held["candidates"][0]["reasons"].to_string().contains("1 deployments sent since"), "{held}");
}
