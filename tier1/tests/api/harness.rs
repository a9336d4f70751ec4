//! A tier1, stub cloudlets, and requests.

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::{KeepAlive, Method},
    rt, web,
};
use serde_json::{Value, json};
use sinfonia_tier1::{Config, Limits, Running};
use sinfonia_wire::{CloudletId, PublicKey};
use std::{
    fs,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

pub(crate) const HELLOWORLD: &str = "00000000-0000-0000-0000-000000000000";
pub(crate) const RESTRICTED: &str = "737b5001-d27a-413f-9806-abf9bfce6746";
pub(crate) const INVALID: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const CHOOSY: &str = "33333333-3333-4333-8333-333333333333";
pub(crate) const LOOP: &str = "44444444-4444-4444-8444-444444444444";
pub(crate) const UNKNOWN: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const KEY: &str = "Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE";
pub(crate) const KEY_STANDARD: &str = "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=";

/// Nothing in these tests takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(20);

/// A running tier1 with its recipes.
pub(crate) struct World {
    pub url: String,
    pub port: u16,
    _recipes: TempDir,
    _running: Running,
}

/// What came back.
pub(crate) struct Answer {
    pub status: u16,
    pub content_type: String,
    pub retry_after: Option<String>,
    pub challenge: Option<String>,
    pub etag: Option<String>,
    pub link: Option<String>,
    pub body: Value,
}

/// Time limits that suit tests: patience well below the others.
pub(crate) fn limits() -> Limits {
    Limits { patience: Duration::from_millis(300), total: Duration::from_secs(10), ..Limits::default() }
}

pub(crate) fn recipes() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |uuid: &str, text: &str| fs::write(directory.path().join(format!("{uuid}.yaml")), text).unwrap();
    write(
        HELLOWORLD,
        "description: |-\n  Simple test deployment.\n  Deploys an nginx\nchart: https://cmusatyalab.github.io/sinfonia/helloworld\n\
         version: 0.1.0\nvalues:\n  fullnameOverride: helloworld\nrestricted: false\n",
    );
    write(RESTRICTED, "chart: https://cmusatyalab.github.io/sinfonia/openrtist\nversion: 0.1.3\n");
    write(
        CHOOSY,
        "chart: a\nversion: 1\nrequires: cloudlet.resources.cpu_ratio < 0.8\nprefer: cloudlet.labels.tier == 'gold'\n",
    );
    write(LOOP, "chart: a\nversion: 1\nrequires: \"['a'].exists(x, x in cloudlet.labels)\"\n");
    write(INVALID, "chart: ../../etc/passwd\nversion: 0.1.3\n");
    directory
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Stubs are on loopback, so that has to be allowed unless the test is about it.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let recipes = recipes();
        let mut config = Config {
            port: 0,
            recipes: recipes.path().to_str().unwrap().to_owned(),
            allow_local_endpoints: true,
            // Headers that tell of other clients are not local.
            insecure_open: true,
            workers: Some(2),
            limits: limits(),
            ..Config::default()
        };
        change(&mut config);
        let running = sinfonia_tier1::start(config).await.unwrap();
        let port = running.address.port();
        Self { url: format!("http://127.0.0.1:{port}"), port, _recipes: recipes, _running: running }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let asked = method.clone();
        let client = awc::Client::builder().disable_redirects().timeout(LIMIT).finish();
        let mut request = client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let mut response = match body {
            Some(body) => request.insert_header(("Content-Type", "application/json")).send_body(body).await,
            None => request.send().await,
        }
        .unwrap();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (content_type, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
        let challenge = header("www-authenticate");
        let (etag, link) = (header("etag"), header("link"));
        let bytes = response.body().limit(1 << 24).await.unwrap();
        let text = || String::from_utf8_lossy(&bytes).into_owned().into();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        let answer =
            Answer { status: response.status().as_u16(), content_type, retry_after, challenge, etag, link, body };
        crate::openapi::check(&asked, path, &answer);
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    /// Requests below `/api/v1/deploy/`.
    pub(crate) async fn ask(&self, method: Method, rest: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, &format!("/api/v1/deploy/{rest}"), headers, None).await
    }

    pub(crate) async fn deploy(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::POST, &format!("{HELLOWORLD}/{KEY}{query}"), headers).await
    }

    pub(crate) async fn report(&self, report: &Value) -> Answer {
        self.send(Method::POST, "/api/v1/cloudlets/", &[], Some(report.to_string())).await
    }

    /// Reports a cloudlet at the stub, with further members, and returns its identity.
    pub(crate) async fn join(&self, stub: &Stub, name: &str, more: Value) -> String {
        let uuid = CloudletId::random().to_string();
        let mut report = json!({"uuid": uuid, "name": name, "endpoint": stub.endpoint()});
        report.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let answer = self.report(&report).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
        uuid
    }
}

impl Answer {
    /// The cloudlets that made the deployments in the answer.
    pub(crate) fn cloudlets(&self) -> Vec<&str> {
        assert_eq!((self.status, self.content_type.as_str()), (200, "application/json"), "{}", self.body);
        self.body.as_array().unwrap().iter().map(|deployment| deployment["Cloudlet"].as_str().unwrap()).collect()
    }

    /// Checks that it is a problem, and returns its detail.
    pub(crate) fn problem(&self, status: u16, code: &str) -> &str {
        assert_eq!((self.status, &self.body["code"]), (status, &code.into()), "{}", self.body);
        assert_eq!((self.content_type.as_str(), &self.body["status"]), ("application/problem+json", &status.into()));
        self.body["detail"].as_str().unwrap()
    }
}

/// A request as a stub saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a stub does with a POST. DELETE is always confirmed unless a status is set.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Deploys,
    Answers(u16, String),
    Hangs,
    /// Deploys when told to go on.
    Waits(Arc<Notify>),
}

/// A cloudlet that is none.
pub(crate) struct Stub {
    pub port: u16,
    state: Arc<State>,
    server: ServerHandle,
}

struct State {
    behaviour: Mutex<Behaviour>,
    seen: watch::Sender<Vec<Seen>>,
}

impl Stub {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let state = Arc::new(State { behaviour: Mutex::new(behaviour), seen: watch::Sender::default() });
        let shared = web::Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(answer)))
            .workers(1)
            // A connection that is open may be served for a moment after the server has stopped.
            .keep_alive(KeepAlive::Disabled)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let port = server.addrs()[0].port();
        let server = server.run();
        let handle = server.handle();
        rt::spawn(server);
        Self { port, state, server: handle }
    }

    pub(crate) async fn deploying() -> Self {
        Self::start(Behaviour::Deploys).await
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/deploy", self.port)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.borrow().clone()
    }

    pub(crate) fn count(&self, method: Method) -> usize {
        self.seen().iter().filter(|seen| seen.method == method).count()
    }

    /// Waits until a request with this method has come.
    pub(crate) async fn asked(&self, method: Method) {
        let mut seen = self.state.seen.subscribe();
        timeout(LIMIT, seen.wait_for(|all| all.iter().any(|seen| seen.method == method))).await.unwrap().unwrap();
    }

    /// Closes the port.
    pub(crate) async fn stop(&self) {
        self.server.stop(false).await;
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

async fn answer(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    let path = request.path().to_owned();
    let seen = Seen { method: request.method().clone(), path: path.clone(), headers: headers.collect() };
    state.seen.send_modify(|all| all.push(seen));
    let behaviour = state.behaviour.lock().unwrap().clone();
    let mut parts = path.rsplit('/');
    let (key, uuid) = (parts.next().unwrap(), parts.next().unwrap());
    match behaviour {
        Behaviour::Answers(status, body) => {
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            return HttpResponse::build(status).insert_header(("Location", "/elsewhere")).body(body);
        }
        _ if request.method() == Method::DELETE => return HttpResponse::NoContent().finish(),
        Behaviour::Deploys => (),
        Behaviour::Hangs => pending().await,
        Behaviour::Waits(go_on) => go_on.notified().await,
    }
    HttpResponse::Ok().json([deployment(uuid, key)])
}

pub(crate) fn deployment(uuid: &str, key: &str) -> Value {
    let key: PublicKey = key.parse().unwrap();
    json!({
        "UUID": uuid,
        "ApplicationKey": key,
        "Status": "Deployed",
        "DeploymentName": "x",
        "TunnelConfig": {
            "publicKey": KEY_STANDARD,
            "allowedIPs": ["0.0.0.0/0"],
            "endpoint": "127.0.0.1:51820",
            "address": ["10.5.0.2"],
            "dns": ["10.96.0.10", "default.svc.cluster.local"],
        },
    })
}
