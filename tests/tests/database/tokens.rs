//! Tokens and whose deployments are, on a real database.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sinfonia_tests::{Finished, Postgres, Running, World, database_url, eventually, program};
use uuid::Uuid;

use crate::setup::{Answer, base, ready_tier1, send};

/// How soon what the command line does counts everywhere.
const SOON: Duration = Duration::from_secs(1);
const KEY: &str = "Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE";

/// A database with two tier1s.
struct Scene {
    replicas: [Running; 2],
    url: String,
    // Last, so that they outlive what uses them.
    postgres: Postgres,
    world: World,
}

impl Scene {
    fn start() -> Self {
        let world = World::new();
        let postgres = Postgres::start(&world, "postgres", &[]);
        let url = database_url(postgres.port());
        let replicas = [ready_tier1(&world, &url), ready_tier1(&world, &url)];
        Self { replicas, url, postgres, world }
    }

    fn bases(&self) -> [String; 2] {
        self.replicas.each_ref().map(base)
    }

    fn token(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program("sinfonia-tier1"));
        command.arg("token").args(arguments).env("SINFONIA_DATABASE_URL", &self.url);
        self.world.start(command).finish()
    }

    /// Makes a token.
    fn create(&self, arguments: &[&str]) -> String {
        made(&self.token(&[&["create"], arguments].concat()))
    }

    fn list(&self) -> Vec<Value> {
        let listed = self.token(&["list", "--json"]);
        assert_eq!(listed.code(), 0, "{}", listed.errors);
        serde_json::from_str(&listed.output).unwrap()
    }

    fn id(&self, name: &str) -> String {
        let valid = |token: &&Value| token["name"] == name && token["state"] == "valid" && token["expires"].is_null();
        self.list().iter().find(valid).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// The statuses that both tier1s have for a token.
    fn statuses(&self, token: &str) -> [u16; 2] {
        self.bases().map(|base| ask("GET", &format!("{base}/api/v1/cloudlets/"), Some(token), None).status)
    }

    fn soon(&self, token: &str, status: u16) {
        let begun = Instant::now();
        eventually("both tier1s know what the token is good for", || self.statuses(token) == [status; 2]);
        eprintln!("{status} everywhere after {:?}", begun.elapsed());
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
}

fn made(finished: &Finished) -> String {
    assert_eq!(finished.code(), 0, "{}", finished.errors);
    let token = finished.output.trim().to_owned();
    assert!(token.starts_with("sinfonia_") && !finished.errors.contains(&token), "{}", finished.errors);
    token
}

fn ask(method: &str, url: &str, token: Option<&str>, body: Option<Value>) -> Answer {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    match body {
        None => send(request.body(()).unwrap()).unwrap(),
        Some(body) => send(request.header("content-type", "application/json").body(body.to_string()).unwrap()).unwrap(),
    }
}

#[test]
fn tokens_count_and_cease_to_count_everywhere_at_once() {
    let scene = Scene::start();
    let list = |base: &str| ask("GET", &format!("{base}/api/v1/cloudlets/"), None, None).status;
    assert_eq!(scene.bases().map(|base| list(&base)), [200, 200], "this machine, as long as there are no tokens");
    let admin = scene.create(&["--scope", "admin", "--name", "operator"]);
    scene.soon(&admin, 200);
    assert_eq!(scene.bases().map(|base| list(&base)), [401, 401]);

    let short = scene.create(&["--scope", "deploy", "--name", "short", "--expires", "1s"]);
    let uuid = Uuid::new_v4().to_string();
    let bound = scene.create(&["--scope", "report", "--cloudlet", &uuid, "--name", "cloudlet"]);
    scene.soon(&bound, 200);
    eventually("it has expired", || scene.statuses(&short) == [401, 401]);

    let id = scene.id("cloudlet");
    assert_eq!(scene.token(&["revoke", &id]).code(), 0);
    scene.soon(&bound, 401);
    let again = scene.token(&["revoke", &id]);
    assert!(again.code() != 0 && again.errors.contains(&id), "{}", again.errors);
    let answers = [bound.as_str(), &short, "sinfonia_unknown"].map(|token| {
        let answer = ask("GET", &format!("{}/api/v1/cloudlets/", scene.bases()[0]), Some(token), None);
        (answer.status, answer.body)
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "revoked, expired, unknown: {answers:?}");

    let stored = scene.postgres.query("SELECT tokens::text FROM tokens");
    let audit = scene.postgres.query("SELECT audit::text FROM audit");
    for token in [&admin, &short, &bound] {
        assert!(![&stored, &audit].iter().any(|text| text.contains(token.as_str())), "it is stored nowhere");
    }
}

#[test]
fn a_rotated_token_goes_on_for_its_grace_and_its_deployments_go_on() {
    let scene = Scene::start();
    let old = scene.create(&["--scope", "admin", "--name", "rotating"]);
    scene.soon(&old, 200);
    let new = made(&scene.token(&["rotate", &scene.id("rotating"), "--grace", "1h"]));
    scene.soon(&new, 200);
    assert_eq!(scene.statuses(&old), [200, 200]);
    let newest = made(&scene.token(&["rotate", &scene.id("rotating")]));
    scene.soon(&newest, 200);
    scene.soon(&new, 401);
    let states: Vec<_> = scene.list().iter().map(|token| token["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["valid", "expired", "valid"]);
    assert_eq!(scene.postgres.query("SELECT count(DISTINCT principal) FROM tokens"), "1");
    scene.postgres.query("SELECT 1");
    assert_eq!(
        scene.postgres.query("SELECT string_agg(action, ' ' ORDER BY id) FROM audit"),
        "token.create token.rotate token.rotate"
    );
    assert_eq!(scene.postgres.query("SELECT count(*) FROM audit WHERE actor LIKE 'command line of user %'"), "3");
}

#[test]
fn tokens_are_known_after_a_restart_and_while_the_database_is_away() {
    let mut scene = Scene::start();
    let admin = scene.create(&["--scope", "admin", "--name", "operator"]);
    scene.soon(&admin, 200);
    scene.postgres.stop();
    assert_eq!(scene.statuses(&admin), [200, 200]);
    assert_eq!(scene.statuses("sinfonia_unknown"), [401, 401]);

    let early = crate::setup::tier1(&scene.world, &scene.url);
    let url = format!("{}/api/v1/recipe/{}/", base(&early), Uuid::nil());
    for token in [Some(admin.as_str()), None] {
        let answer = ask("GET", &url, token, None);
        assert_eq!((answer.status, &answer.body["code"]), (503, &"database-unavailable".into()), "nobody can tell");
    }
    scene.postgres.start_again(&scene.world);
    eventually("the new one knows it", || ask("GET", &url, Some(&admin), None).status == 404);
    assert_eq!(ask("GET", &url, None, None).status, 401);
}

#[test]
fn administrators_actions_are_recorded() {
    let scene = Scene::start();
    let admin = scene.create(&["--scope", "admin", "--name", "operator"]);
    scene.soon(&admin, 200);
    let [one, two] = scene.bases();
    let uuid = Uuid::new_v4();
    let info = json!({"uuid": uuid, "endpoint": crate::setup::endpoint()});
    assert_eq!(ask("POST", &format!("{one}/api/v1/cloudlets/"), Some(&admin), Some(info)).status, 204);
    let path = format!("/api/v1/cloudlets/{uuid}");
    eventually("the other knows it", || {
        ask("GET", &format!("{two}/api/v1/cloudlets/"), Some(&admin), None).body[0]["uuid"] == uuid.to_string()
    });
    assert_eq!(ask("DELETE", &format!("{two}{path}"), None, None).status, 401);
    assert_eq!(ask("DELETE", &format!("{two}{path}"), Some(&admin), None).status, 204);
    assert_eq!(ask("DELETE", &format!("{two}{path}"), Some(&admin), None).status, 404);
    for base in [one, two] {
        eventually("it is gone", || {
            ask("GET", &format!("{base}/api/v1/cloudlets/"), Some(&admin), None).body == json!([])
        });
    }
    let recorded = scene.postgres.query("SELECT actor, subject FROM audit WHERE action = 'cloudlet.delete'");
    let id = scene.id("operator");
    assert_eq!(recorded, format!("token {id} (operator)|{uuid}"));
}

#[test]
fn a_deployment_belongs_to_its_token_at_every_replica_and_after_restarts() {
    let mut scene = Scene::start();
    let application = scene.world.add_page("never deployed");
    let [owner, other, admin] = [("deploy", "owner"), ("deploy", "other"), ("admin", "operator")]
        .map(|(scope, name)| scene.create(&["--scope", scope, "--name", name]));
    scene.soon(&admin, 200);
    let (cloudlet, endpoint) = (Uuid::new_v4(), stub());
    let [one, two] = scene.bases();
    let info = json!({"uuid": cloudlet, "endpoint": endpoint});
    assert_eq!(ask("POST", &format!("{one}/api/v1/cloudlets/"), Some(&admin), Some(info)).status, 204);
    let path = format!("/api/v1/deploy/{application}/{KEY}");
    let there = format!("{path}?cloudlet={cloudlet}");
    assert_eq!(ask("POST", &format!("{one}{path}"), Some(&owner), None).status, 200);
    let is_owners = |base: &str, owner: &str| {
        eventually("it is its owner's", || ask("GET", &format!("{base}{there}"), Some(owner), None).status == 200);
        for (method, path) in [("GET", &there), ("GET", &path), ("POST", &path), ("POST", &there), ("DELETE", &path)] {
            let answer = ask(method, &format!("{base}{path}"), Some(&other), None);
            assert_eq!((answer.status, &answer.body["code"]), (404, &"no-deployment".into()), "{method} {path}");
        }
    };
    is_owners(&one, &owner);
    is_owners(&two, &owner);
    let rotated = made(&scene.token(&["rotate", &scene.id("owner")]));
    scene.replicas = [ready_tier1(&scene.world, &scene.url), ready_tier1(&scene.world, &scene.url)];
    let [one, two] = scene.bases();
    is_owners(&one, &rotated);
    assert_eq!(ask("GET", &format!("{two}{there}"), Some(&admin), None).status, 200);
    assert_eq!(ask("DELETE", &format!("{one}{path}"), Some(&rotated), None).status, 204);
    eventually("it is gone everywhere", || ask("POST", &format!("{two}{path}"), Some(&other), None).status == 200);
}

/// A cloudlet that says yes to everything; where it takes deployments. Its thread ends with the test program.
fn stub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/api/v1/deploy", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(answer));
    endpoint
}

fn answer(mut stream: TcpStream) {
    let head: Vec<String> =
        BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(line) = head.first() else { return };
    let mut parts = line.split(' ').nth(1).unwrap().rsplit('/');
    let (key, application) = (parts.next().unwrap(), parts.next().unwrap());
    let key: sinfonia_wire::PublicKey = key.parse().unwrap();
    let tunnel = json!({
        "publicKey": key, "allowedIPs": ["0.0.0.0/0"], "endpoint": "127.0.0.1:51820", "address": ["10.5.0.2"],
        "dns": ["10.96.0.10"],
    });
    let body = json!([{
        "UUID": application, "ApplicationKey": key, "Status": "Deployed", "DeploymentName": "x", "TunnelConfig": tunnel,
    }]);
    let body = body.to_string();
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length:";
    let _ = stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes());
}
