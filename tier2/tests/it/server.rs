//! A real tier2 on a free port, with a driver that only pretends.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use awc::{Client, http::Method};
use serde_json::Value;
use sinfonia_tier2::{Config, StartError, start_with};
use sinfonia_wire::CloudletId;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::fake::Fake;

pub(crate) const UNKNOWN: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const HELLOWORLD: &str = "00000000-0000-0000-0000-000000000000";
pub(crate) const KEY: &str = "Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE";

const RECIPE: &str = "
chart: helloworld
version: 0.1.0
local: {command: ['true'], port: 80, service: helloworld}
";

/// Recipes and state of a tier2.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.recipes()).unwrap();
        home.write_recipe(HELLOWORLD, RECIPE);
        home
    }

    pub(crate) fn write_recipe(&self, application: &str, text: &str) {
        fs::write(self.recipes().join(format!("{application}.yaml")), text).unwrap();
    }

    pub(crate) fn recipes(&self) -> std::path::PathBuf {
        self.0.path().join("recipes")
    }

    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    pub(crate) fn config(&self) -> Config {
        Config { port: 0, recipes: self.recipes().to_str().unwrap().to_owned(), ..Config::new(self.state()) }
    }
}

/// A running tier2.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) cloudlet: CloudletId,
    pub(crate) fake: Fake,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    _home: Option<Home>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Server {
    pub(crate) async fn start(config: Config, fake: &Fake) -> Result<Self, StartError> {
        let tier2 = start_with(config, fake.driver()).await?;
        let (stop, stopped) = oneshot::channel();
        let (address, cloudlet) = (tier2.address(), tier2.cloudlet());
        let running = actix_rt::spawn(async move {
            tier2.run_until(async { stopped.await.unwrap() }).await.unwrap();
        });
        Ok(Self { address, cloudlet, fake: fake.clone(), stop, running, _home: None })
    }

    /// With the defaults.
    pub(crate) async fn in_home(home: &Home) -> Self {
        Self::start(home.config(), &Fake::default()).await.unwrap()
    }

    /// In a home of its own.
    pub(crate) async fn alone() -> Self {
        let home = Home::new();
        let server = Self::in_home(&home).await;
        Self { _home: Some(home), ..server }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }

    pub(crate) async fn request(&self, method: Method, path: &str) -> Answer {
        request(self.address, method, path).await
    }

    pub(crate) async fn post(&self, application: &str, key: &str) -> Answer {
        self.request(Method::POST, &deploy_path(application, key)).await
    }
}

pub(crate) async fn request(address: SocketAddr, method: Method, path: &str) -> Answer {
    request_with(address, method, path, None).await
}

pub(crate) async fn request_with(
    address: SocketAddr,
    method: Method,
    path: &str,
    authorization: Option<&str>,
) -> Answer {
    let client = Client::builder().timeout(Duration::from_secs(30)).finish();
    let mut request = client.request(method, format!("http://{address}{path}"));
    if let Some(authorization) = authorization {
        request = request.insert_header(("Authorization", authorization));
    }
    let mut answer = request.send().await.unwrap();
    let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (content_type, retry_after) = (header("content-type").unwrap_or_default(), header("retry-after"));
    let body = answer.body().await.unwrap();
    Answer {
        status: answer.status().as_u16(),
        content_type,
        retry_after,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

pub(crate) fn deploy_path(application: &str, key: &str) -> String {
    format!("/api/v1/deploy/{application}/{key}")
}

/// Makes every write of the deployments' file fail, for root too.
pub(crate) fn break_state(state: &Path) {
    fs::create_dir(state.join(".deployments.json.new")).unwrap();
}

pub(crate) fn mend_state(state: &Path) {
    fs::remove_dir(state.join(".deployments.json.new")).unwrap();
}
