//! Who is known, in parts.

use crate::harness::{Stub, UNKNOWN, World};
use serde_json::{Value, json};
use std::io::Write as _;

fn names(body: &Value) -> Vec<&str> {
    body.as_array().unwrap().iter().map(|cloudlet| cloudlet["name"].as_str().unwrap()).collect()
}

/// Networks count of those whom the operator lists, or who have a token.
async fn world() -> (World, Stub) {
    let list = tempfile::NamedTempFile::new().unwrap();
    let places = [("Graz", "47.07, 15.44"), ("Vienna", "48.21, 16.37"), ("vienna west", "48.2, 16.2")];
    for (number, (name, place)) in places.into_iter().enumerate() {
        let endpoint = format!("http://192.0.2.{number}/api/v1/deploy");
        let (name, place) = (format!("name: {name}"), format!("location: [{place}]"));
        writeln!(&list, "---\nendpoint: {endpoint}\n{name}\n{place}\nlocal_networks: [10.{number}.0.0/16]").unwrap();
    }
    let world = World::with(|config| config.cloudlets = Some(list.path().to_owned())).await;
    (world, Stub::deploying().await)
}

#[actix_web::test]
async fn pages_hold_everybody_once_and_in_one_order() {
    let (world, _stub) = world().await;
    let all = world.get("/api/v1/cloudlets/").await;
    let mut path = "/api/v1/cloudlets/?limit=2".to_owned();
    let mut gathered = Vec::new();
    let mut pages = 0;
    loop {
        let page = world.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        gathered.extend(page.body.as_array().unwrap().iter().cloned());
        pages += 1;
        let Some(link) = page.link else { break };
        let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
        path = format!("/api/v1/cloudlets/{next}");
    }
    assert_eq!((pages, Value::from(gathered)), (2, all.body));
}

#[actix_web::test]
async fn some_are_found_by_place_network_and_name() {
    let (world, _stub) = world().await;
    for (query, expected) in [
        ("near=48.2,16.37", &["Vienna", "vienna west", "Graz"][..]),
        ("near=48.2,16.37&limit=1", &["Vienna"]),
        ("near=47,15&name=VIEN", &["vienna west", "Vienna"]),
        ("network=10.1.2.3", &["Vienna"]),
        ("network=10.2.128.0/17", &["vienna west"]),
        ("network=10.0.0.0/8", &[]),
        ("name=graz", &["Graz"]),
        ("name=raz", &[]),
    ] {
        let answer = world.get(&format!("/api/v1/cloudlets/?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        assert_eq!(names(&answer.body), expected, "{query}");
    }
    for query in [
        "near=91,0",
        "near=1",
        "limit=0",
        "limit=many",
        "cursor=x",
        "network=here",
        "near=1,1&cursor=737b5001-d27a-413f-9806-abf9bfce6746",
    ] {
        let answer = world.get(&format!("/api/v1/cloudlets/?{query}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("invalid-query")), "{query}: {}", answer.body);
    }
}

#[actix_web::test]
async fn who_has_it_already_gets_it_only_when_it_has_changed() {
    let (world, stub) = world().await;
    for path in ["/api/v1/cloudlets/?name=graz", "/api/v1/cloudlets/"] {
        let tag = world.get(path).await.etag.unwrap();
        let again = async |tag: &str| world.send("GET".parse().unwrap(), path, &[("If-None-Match", tag)], None).await;
        assert_eq!(again(&format!("\"other\", {tag}")).await.status, 304);
        assert_eq!(again("*").await.status, 304);
        assert_eq!(again("W/\"other\"").await.status, 200);
        world
            .join(
                &stub,
                "graz too",
                json!({"endpoint": format!("http://127.0.0.1:{}/{}/api/v1/deploy", stub.port, path.len())}),
            )
            .await;
        assert_eq!(again(&tag).await.status, 200);
    }
}

#[actix_web::test]
async fn one_is_told_and_its_history_only_with_a_database() {
    let (world, _stub) = world().await;
    let all = world.get("/api/v1/cloudlets").await;
    let uuid = all.body[0]["uuid"].as_str().unwrap();
    assert_eq!(world.get(&format!("/api/v1/cloudlets/{uuid}")).await.body, all.body[0]);
    let history = world.get(&format!("/api/v1/cloudlets/{uuid}/metrics")).await;
    assert_eq!((history.status, &history.body["code"]), (501, &json!("no-history")));
    for path in ["", "/metrics"] {
        let answer = world.get(&format!("/api/v1/cloudlets/{UNKNOWN}{path}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("unknown-cloudlet")));
        let answer = world.get(&format!("/api/v1/cloudlets/x{path}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("invalid-uuid")));
    }
}
