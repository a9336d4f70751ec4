//! Input good and bad: keys in every form, recipes of every kind, ports and directories that are taken.

use std::net::TcpListener;

use actix_web::{App, HttpResponse, HttpServer, web};
use awc::http::Method;
use sinfonia_tier2::Config;

use crate::{
    fake::Fake,
    server::{HELLOWORLD, Home, KEY, Server, UNKNOWN, deploy_path},
};

/// A key whose plain base64 holds `/` and `+`.
const SLASHED: &str = "//7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtW/QE=";

#[actix_web::test]
async fn a_key_is_the_same_in_every_form() {
    let server = Server::alone().await;
    let hex: String =
        SLASHED.parse::<sinfonia_wire::PublicKey>().unwrap().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let unpadded = SLASHED.trim_end_matches('=');
    let url_safe = unpadded.replace('/', "_").replace('+', "-");
    let forms = [
        SLASHED.to_owned(),
        unpadded.to_owned(),
        format!("{unpadded}/"),
        SLASHED.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"),
        url_safe.clone(),
        format!("{url_safe}="),
        format!("{url_safe}/"),
        hex.clone(),
        hex.to_uppercase(),
    ];
    for form in forms {
        let answer = server.post(HELLOWORLD, &form).await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.body);
        assert_eq!(answer.body[0]["ApplicationKey"], SLASHED, "{form}");
    }
    assert_eq!(server.fake.world().installs, 1);
    server.stop().await;
}

#[actix_web::test]
async fn malformed_uuids_and_keys_are_told_apart() {
    let server = Server::alone().await;
    let short = &KEY[1..];
    let long = format!("{KEY}AA");
    for (application, key, code) in [
        ("helloworld", KEY, "invalid-uuid"),
        ("0", KEY, "invalid-uuid"),
        ("..%2f..%2fetc", KEY, "invalid-uuid"),
        (HELLOWORLD, "", "invalid-key"),
        (HELLOWORLD, "abc", "invalid-key"),
        (HELLOWORLD, short, "invalid-key"),
        (HELLOWORLD, &long, "invalid-key"),
        (HELLOWORLD, &"g".repeat(64), "invalid-key"),
        (HELLOWORLD, "%ff%fe", "invalid-key"),
        (HELLOWORLD, "..%2f..%2f..%2fetc%2fpasswd", "invalid-key"),
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let answer = server.request(method.clone(), &deploy_path(application, key)).await;
            let told = (answer.status, answer.body["code"].as_str());
            assert_eq!(told, (400, Some(code)), "{method} {application} {key}");
            assert_eq!(answer.content_type, "application/problem+json");
        }
    }
    let other = server.request(Method::PUT, &deploy_path(HELLOWORLD, KEY)).await;
    assert_eq!(other.status, 405);
    server.stop().await;
}

#[actix_web::test]
async fn recipes_that_cannot_be_used_say_why() {
    let home = Home::new();
    let application = |n: u8| format!("00000000-0000-0000-0000-0000000000{n:02}");
    home.write_recipe(&application(1), "chart: a\nversion: 1.0.0\n");
    home.write_recipe(&application(2), "chart: a\nversion: 1.0.0\nlocal: {command: [], port: 80, service: a}\n");
    home.write_recipe(&application(3), "chart: ../../etc\nversion: 1.0.0\n");
    home.write_recipe(&application(4), "chart: [");
    let server = Server::in_home(&home).await;
    for (application, status, words) in [
        (UNKNOWN.to_owned(), 404, vec![UNKNOWN]),
        (application(1), 422, vec!["local:"]),
        (application(2), 500, vec![".yaml", "command"]),
        (application(3), 500, vec![".yaml", "chart"]),
        (application(4), 500, vec![".yaml"]),
    ] {
        let answer = server.post(&application, KEY).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(words.iter().all(|word| detail.contains(word)), "{detail}");
    }
    assert_eq!(server.fake.world().installs, 0);
    server.stop().await;
}

#[actix_web::test]
async fn a_remote_recipe_must_not_run_commands_here() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/recipes", listener.local_addr().unwrap());
    let text = "chart: a\nversion: 1.0.0\nlocal: {command: [id], port: 80, service: a}\n";
    let recipes = HttpServer::new(move || {
        App::new().default_service(web::to(move || async move { HttpResponse::Ok().body(text) }))
    });
    let recipes = recipes.workers(1).disable_signals().listen(listener).unwrap().run();
    let handle = recipes.handle();
    actix_rt::spawn(recipes);
    let home = Home::new();
    let server = Server::start(Config { recipes: url, ..home.config() }, &Fake::default()).await.unwrap();
    let answer = server.post(HELLOWORLD, KEY).await;
    assert_eq!((answer.status, &answer.body["code"]), (422, &"local-recipe-from-remote".into()));
    server.stop().await;
    handle.stop(false).await;
}

#[actix_web::test]
async fn what_is_taken_is_named_at_start() {
    let home = Home::new();
    let server = Server::in_home(&home).await;
    let again = Server::start(home.config(), &Fake::default()).await.err().unwrap().to_string();
    assert!(again.contains("in use by another") && again.contains("--state-directory"), "{again}");
    let port = Config { port: server.address.port(), ..Home::new().config() };
    let other = Home::new();
    let port = Config { recipes: other.config().recipes, state_directory: other.state(), ..port };
    let taken = Server::start(port, &Fake::default()).await.err().unwrap().to_string();
    assert!(taken.contains("already in use") && taken.contains("--port"), "{taken}");
    let recipes = Config { recipes: "/nonexistent".into(), ..other.config() };
    let missing = Server::start(recipes, &Fake::default()).await.err().unwrap().to_string();
    assert!(missing.contains("/nonexistent"), "{missing}");
    server.stop().await;
}
