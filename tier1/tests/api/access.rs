//! Who may do what, with tokens from a file and without any.

use crate::harness::{Answer, HELLOWORLD, RESTRICTED, Stub, World};
use actix_web::http::Method;
use serde_json::{Value, json};
use sinfonia_credentials::TokenHash;
use sinfonia_tier1::Config;
use sinfonia_wire::{CloudletId, PublicKey};
use std::{fmt::Write as _, fs, path::PathBuf};
use tempfile::TempDir;

const REFUSED: [Option<&str>; 7] = [
    None,
    Some("Bearer unknown"),
    Some("Bearer expired"),
    Some("Bearer"),
    Some("Bearer two words"),
    Some("Basic YWRtaW46YWRtaW4="),
    Some("admin"),
];

/// A tier1 with a file of tokens and one cloudlet.
struct Scene {
    world: World,
    stub: Stub,
    directory: TempDir,
    own: String,
    other: String,
}

fn entry(token: &str, rest: &str) -> String {
    format!("- name: {token}\n  hash: {}\n  {rest}\n", TokenHash::of(token))
}

/// Closed, as where it is reached from elsewhere.
fn closed(config: &mut Config, tokens: PathBuf) {
    config.tokens_file = Some(tokens);
    config.insecure_open = false;
}

impl Scene {
    async fn start() -> Self {
        let (directory, stub) = (tempfile::tempdir().unwrap(), Stub::deploying().await);
        let [own, other] = [(); 2].map(|()| CloudletId::random().to_string());
        let file = directory.path().join("tokens.yaml");
        let mut text = entry("report", &format!("scopes: [report]\n  cloudlet: {own}"));
        for (token, rest) in [
            ("deploy", "scopes: [deploy]".to_owned()),
            ("listed", format!("scopes: [deploy]\n  recipes: [{RESTRICTED}]")),
            ("admin", "scopes: [admin]".to_owned()),
            ("another", "scopes: [deploy]".to_owned()),
            ("expired", "scopes: [admin]\n  expires: 2020-01-01T00:00:00Z".to_owned()),
        ] {
            text += &entry(token, &rest);
        }
        fs::write(&file, text).unwrap();
        let world = World::with(|config| closed(config, file)).await;
        let scene = Self { world, stub, directory, own, other };
        assert_eq!(scene.report("admin", &scene.own).await.status, 204);
        scene
    }

    async fn ask(&self, method: Method, path: &str, authorization: Option<&str>, body: Option<String>) -> Answer {
        let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
        self.world.send(method, path, &headers, body).await
    }

    async fn report(&self, token: &str, uuid: &str) -> Answer {
        let body = json!({"uuid": uuid, "endpoint": self.stub.endpoint()}).to_string();
        self.ask(Method::POST, "/api/v1/cloudlets/", Some(&format!("Bearer {token}")), Some(body)).await
    }

    /// Every request that tier1 knows, in an order that makes sense; each caller has a key.
    fn requests(&self, key: u8) -> Vec<(Method, String, Option<String>)> {
        let key = PublicKey::from([key; 32]).url_safe().to_string();
        let deploy = |recipe: &str, query: &str| format!("/api/v1/deploy/{recipe}/{key}{query}");
        let at_own = format!("?cloudlet={}", self.own);
        let report = |uuid: &String| Some(json!({"uuid": uuid, "endpoint": self.stub.endpoint()}).to_string());
        vec![
            (Method::GET, "/api/v1/cloudlets/".to_owned(), None),
            (Method::POST, "/api/v1/cloudlets/".to_owned(), report(&self.own)),
            (Method::POST, "/api/v1/cloudlets".to_owned(), report(&self.other)),
            (Method::GET, format!("/api/v1/recipe/{HELLOWORLD}/"), None),
            (Method::GET, format!("/api/v1/recipe/{RESTRICTED}"), None),
            (Method::GET, deploy(HELLOWORLD, ""), None),
            (Method::GET, deploy(HELLOWORLD, "?explain=true"), None),
            (Method::POST, deploy(HELLOWORLD, ""), None),
            (Method::GET, deploy(HELLOWORLD, &at_own), None),
            (Method::POST, deploy(HELLOWORLD, &at_own), None),
            (Method::DELETE, deploy(HELLOWORLD, ""), None),
            (Method::POST, deploy(RESTRICTED, ""), None),
            (Method::GET, deploy(RESTRICTED, &at_own), None),
            (Method::DELETE, deploy(RESTRICTED, &at_own), None),
            (Method::GET, format!("/api/v1/cloudlets/{}", self.own), None),
            (Method::GET, format!("/api/v1/cloudlets/{}/metrics", self.own), None),
            (Method::DELETE, format!("/api/v1/cloudlets/{}", self.other), None),
        ]
    }
}

#[actix_web::test]
async fn each_scope_allows_what_it_is_for() {
    let scene = Scene::start().await;
    #[rustfmt::skip]
    let expected = [
        ("report", [200, 204, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 200, 501, 403]),
        ("deploy", [200, 403, 403, 200, 403, 200, 200, 200, 200, 200, 204, 403, 403, 403, 200, 501, 403]),
        ("listed", [200, 403, 403, 200, 200, 403, 403, 403, 403, 403, 403, 200, 200, 204, 200, 501, 403]),
        ("admin",  [200, 204, 204, 200, 200, 200, 200, 200, 200, 200, 204, 200, 200, 204, 200, 501, 204]),
    ];
    for ((token, statuses), key) in expected.into_iter().zip(1..) {
        for ((method, path, body), status) in scene.requests(key).into_iter().zip(statuses) {
            let answer = scene.ask(method.clone(), &path, Some(&format!("bearer {token}")), body).await;
            assert_eq!(answer.status, status, "{token}: {method} {path}: {}", answer.body);
            if status == 403 {
                let codes = ["scope-missing", "other-cloudlet", "recipe-not-allowed", "restricted-recipe"];
                assert!(codes.contains(&answer.body["code"].as_str().unwrap()), "{}", answer.body);
                assert_eq!(answer.content_type, "application/problem+json");
            }
        }
    }
}

#[actix_web::test]
async fn without_a_valid_token_nothing_is_allowed_or_told() {
    let scene = Scene::start().await;
    let known = scene.stub.seen().len();
    for authorization in REFUSED {
        for (method, path, body) in scene.requests(9) {
            let answer = scene.ask(method.clone(), &path, authorization, body).await;
            let code = if authorization.is_some() { "token-invalid" } else { "token-missing" };
            answer.problem(401, code);
            assert_eq!(answer.challenge.as_deref(), Some("Bearer"), "{method} {path}");
        }
    }
    assert_eq!(scene.stub.seen().len(), known, "no cloudlet is asked");
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(scene.world.get(path).await.status, 200, "{path}");
    }
}

#[actix_web::test]
async fn it_is_not_told_why_a_token_is_not_valid() {
    let scene = Scene::start().await;
    let mut answers = Vec::new();
    for authorization in REFUSED.into_iter().flatten() {
        let answer = scene.ask(Method::GET, "/api/v1/cloudlets/", Some(authorization), None).await;
        answers.push((answer.status, answer.content_type, answer.challenge, answer.body));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let twice = [("Authorization", "Bearer admin"), ("Authorization", "Bearer unknown")];
    scene.world.send(Method::GET, "/api/v1/cloudlets/", &twice, None).await.problem(401, "token-invalid");
}

#[actix_web::test]
async fn a_changed_file_counts_soon() {
    let scene = Scene::start().await;
    let file = scene.directory.path().join("tokens.yaml");
    let status = async |token: &str| {
        scene.ask(Method::GET, "/api/v1/cloudlets/", Some(&format!("Bearer {token}")), None).await.status
    };
    assert_eq!((status("admin").await, status("later").await), (200, 401));
    fs::write(&file, "- name: broken\n").unwrap();
    let mut text = entry("later", "scopes: [admin]");
    write!(text, "# {}", "x".repeat(9)).unwrap();
    fs::write(&file, text).unwrap();
    let begun = std::time::Instant::now();
    while status("later").await != 200 {
        assert!(begun.elapsed().as_secs() < 20, "the file is not read again");
    }
    assert_eq!(status("admin").await, 401);
}

#[actix_web::test]
async fn only_known_cloudlets_speak_for_networks() {
    let scene = Scene::start().await;
    let report = |uuid: &str, more: Value| {
        let mut report = json!({"uuid": uuid, "endpoint": scene.stub.endpoint()});
        report.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        report.to_string()
    };
    for (uuid, more) in [
        (&scene.own, json!({"local_networks": ["127.0.0.0/8"], "locations": [[50, 8]]})),
        (&scene.other, json!({"locations": [[40, -80]]})),
    ] {
        let body = report(uuid, more);
        let answer = scene.ask(Method::POST, "/api/v1/cloudlets/", Some("Bearer admin"), Some(body)).await;
        assert_eq!(answer.status, 204);
    }
    let headers = [("Authorization", "Bearer deploy"), ("X-Location", "40,-80")];
    assert_eq!(scene.world.deploy("", &headers).await.cloudlets(), [scene.own.as_str()]);
}

#[actix_web::test]
async fn without_tokens_this_machine_may_everything_until_something_is_passed_on() {
    let (world, stub) = (World::with(|config| config.insecure_open = false).await, Stub::deploying().await);
    world.join(&stub, "a", json!({})).await;
    world.deploy("", &[]).await.cloudlets();
    for header in [("X-ClientIP", "127.0.0.1"), ("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")] {
        world.deploy("", &[header]).await.problem(401, "token-missing");
    }
    world.deploy("", &[("Authorization", "Bearer guessed")]).await.problem(401, "token-invalid");
}

#[actix_web::test]
async fn only_who_is_known_has_a_name() {
    let open = World::start().await;
    let report = |uuid: &str| json!({"uuid": uuid, "name": "pittsburgh", "endpoint": "http://192.0.2.1/api/v1/deploy"});
    let mut body = report(&CloudletId::random().to_string());
    for name in ["pittsburgh", "a\u{0}b"] {
        body["name"] = json!(name);
        let headers = [("X-ClientIP", "128.2.0.1")];
        let answer = open.send(Method::POST, "/api/v1/cloudlets/", &headers, Some(body.to_string())).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
        assert_eq!(open.get("/api/v1/cloudlets/").await.body[0]["name"], "192.0.2.1");
    }

    let scene = Scene::start().await;
    let path = format!("/api/v1/cloudlets/{}", scene.own);
    let body = report(&scene.own).to_string();
    assert_eq!(scene.ask(Method::POST, "/api/v1/cloudlets/", Some("Bearer report"), Some(body)).await.status, 204);
    assert_eq!(scene.ask(Method::GET, &path, Some("Bearer report"), None).await.body["name"], "pittsburgh");
}

#[actix_web::test]
async fn open_to_all_means_what_needs_no_token() {
    let (world, stub) = (World::start().await, Stub::deploying().await);
    let uuid = world.join(&stub, "a", json!({})).await;
    let elsewhere = ("X-ClientIP", "128.2.0.1");
    assert_eq!(world.deploy("", &[elsewhere]).await.cloudlets(), [uuid.as_str()]);
    let restricted = format!("{RESTRICTED}/{}", crate::harness::KEY);
    world.ask(Method::POST, &restricted, &[elsewhere]).await.problem(401, "token-missing");
    world.deploy("", &[elsewhere, ("Authorization", "Bearer guessed")]).await.problem(401, "token-invalid");
}

#[actix_web::test]
async fn it_is_not_open_to_all_by_accident() {
    let directory = tempfile::tempdir().unwrap();
    let start = |change: fn(&mut Config)| {
        let recipes = directory.path().to_str().unwrap().to_owned();
        let mut config =
            Config { host: "0.0.0.0".parse().unwrap(), port: 0, workers: Some(1), recipes, ..Config::default() };
        change(&mut config);
        sinfonia_tier1::start(config)
    };
    let error = start(|_| ()).await.unwrap_err().to_string();
    for part in ["0.0.0.0", "--tokens-file", "sinfonia-tier1 token create", "--insecure-open"] {
        assert!(error.contains(part), "{error}");
    }
    start(|config| config.insecure_open = true).await.unwrap().stop().await.unwrap();
    let error = start(|config| config.tokens_file = Some("/nonexistent/tokens".into())).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/tokens"), "{error}");
}

#[actix_web::test]
async fn cloudlets_learn_who_asks_by_tier1s_own_token() {
    let (directory, stub) = (tempfile::tempdir().unwrap(), Stub::deploying().await);
    let [tokens, own] = ["tokens.yaml", "own"].map(|name| directory.path().join(name));
    fs::write(&tokens, entry("admin", "scopes: [admin]")).unwrap();
    fs::write(&own, "tier1s-own\n").unwrap();
    let world = World::with(|config| {
        closed(config, tokens);
        config.cloudlet_token_file = Some(own);
    })
    .await;
    let headers = [("Authorization", "Bearer admin")];
    let report = json!({"uuid": CloudletId::random(), "endpoint": stub.endpoint()}).to_string();
    assert_eq!(world.send(Method::POST, "/api/v1/cloudlets/", &headers, Some(report)).await.status, 204);
    world.deploy("", &headers).await.cloudlets();
    assert_eq!(stub.seen()[0].header("Authorization"), Some("Bearer tier1s-own"), "not the client's");
}

#[actix_web::test]
async fn a_deployment_is_there_for_the_token_that_made_it_only() {
    let scene = Scene::start().await;
    let path = format!("/api/v1/deploy/{HELLOWORLD}/{}", crate::harness::KEY);
    let at_own = format!("{path}?cloudlet={}", scene.own);
    let bearer = |token: &str| format!("Bearer {token}");
    let ask = async |method: Method, path: &str, token: &str| scene.ask(method, path, Some(&bearer(token)), None).await;
    let of_it = [
        (Method::GET, &path),
        (Method::GET, &at_own),
        (Method::POST, &path),
        (Method::POST, &at_own),
        (Method::DELETE, &path),
        (Method::DELETE, &at_own),
    ];

    let before = ask(Method::GET, &at_own, "another").await;
    assert_eq!(ask(Method::POST, &path, "deploy").await.status, 200);
    let known = scene.stub.seen().len();
    for (method, path) in &of_it {
        let answer = ask(method.clone(), path, "another").await;
        answer.problem(404, "no-deployment");
        assert_eq!(answer.body, before.body, "as if it was not there");
    }
    assert_eq!(scene.stub.seen().len(), known, "the cloudlet is not asked");
    for token in ["deploy", "admin"] {
        for (method, path) in &of_it[..4] {
            assert_eq!(ask(method.clone(), path, token).await.status, 200, "{token}: {method} {path}");
        }
    }
    ask(Method::DELETE, &path, "another").await.problem(404, "no-deployment");
    assert_eq!(ask(Method::DELETE, &path, "deploy").await.status, 204);
    ask(Method::DELETE, &path, "deploy").await.problem(404, "no-deployment");

    assert_eq!(ask(Method::POST, &path, "another").await.status, 200, "it is another one");
    ask(Method::GET, &at_own, "deploy").await.problem(404, "no-deployment");
    assert_eq!(ask(Method::DELETE, &at_own, "admin").await.status, 204);
}

#[actix_web::test]
async fn nothing_belongs_to_whom_nothing_was_made_for() {
    let scene = Scene::start().await;
    let path = format!("/api/v1/deploy/{HELLOWORLD}/{}", crate::harness::KEY);
    scene.stub.behave(crate::harness::Behaviour::Answers(422, String::new()));
    assert_eq!(scene.ask(Method::POST, &path, Some("Bearer deploy"), None).await.status, 502);
    scene.stub.behave(crate::harness::Behaviour::Deploys);
    assert_eq!(scene.ask(Method::POST, &path, Some("Bearer another"), None).await.status, 200);
}

#[actix_web::test]
async fn administrators_make_cloudlets_be_forgotten() {
    let scene = Scene::start().await;
    let delete = async |uuid: &str, token: &str| {
        let path = format!("/api/v1/cloudlets/{uuid}");
        scene.ask(Method::DELETE, &path, Some(&format!("Bearer {token}")), None).await
    };
    delete(&scene.own, "report").await.problem(403, "scope-missing");
    delete("nonsense", "admin").await.problem(400, "invalid-uuid");
    delete(&scene.other, "admin").await.problem(404, "unknown-cloudlet");
    assert_eq!(delete(&scene.own, "admin").await.status, 204);
    let listed = scene.ask(Method::GET, "/api/v1/cloudlets/", Some("Bearer admin"), None).await;
    assert_eq!(listed.body, json!([]));
    assert_eq!(scene.report("report", &scene.own).await.status, 204, "it may come back");
}
