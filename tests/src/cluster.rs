//! The real cluster of `make cluster-up`, as tests use it: kubectl, cloudlets with the rights they have in production,
//! and clients without any.
//!
//! These tests run as root in the cluster's network namespace, where nodes, pods and services can be reached.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::process::{Finished, Running, eventually};
use crate::world::{World, any_port, program};

/// Where tier2's own objects are.
pub const NAMESPACE: &str = "sinfonia";

/// Label selector of everything that belongs to a deployment.
pub const OURS: &str = "findcloudlet.org=deployment";

/// The client program.
const CLIENT: &str = "sinfonia-tier3";

/// The user that clients run as, and its group.
const USER: &str = "sinfonia-test";

/// One at a time: the tests share the cluster's cloudlet.
static CLUSTER: Mutex<()> = Mutex::new(());

/// The cluster, without any deployments, for one test, and a world to work in.
pub struct Cluster {
    /// Recipes, files and programs of the test.
    pub world: World,
    // After the world's programs have ended.
    _alone: File,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for its turn and removes what an earlier test left.
    ///
    /// # Panics
    /// Without a cluster.
    pub fn new() -> Self {
        let cluster = Self::without_cloudlet();
        cluster.remove_deployments();
        // One that was killed would be waited for.
        cluster.kubectl(&["-n", NAMESPACE, "delete", "lease", "sinfonia-tier2", "--ignore-not-found"]);
        cluster.write_account();
        cluster
    }

    /// The cluster whatever is on it.
    ///
    /// # Panics
    /// Without a cluster.
    pub fn without_cloudlet() -> Self {
        assert!(std::env::var_os("KUBECONFIG").is_some(), "no cluster: run by `make e2e`, or after `make cluster-up`");
        let turn = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = Self { world: World::new(), _alone: alone(), _turn: turn };
        cluster.copy_client();
        cluster
    }

    /// Deletes all deployments, taken over or not, and waits until nothing of them is left.
    pub fn remove_deployments(&self) {
        self.kubectl(&["delete", "cloudletdeployments", "--all", "--wait=false"]);
        for kind in ["peers", "namespaces"] {
            self.kubectl(&["delete", kind, "-l", OURS, "--wait=false"]);
        }
        eventually("nothing of the deployments is left", || self.left() == (0, 0, 0));
    }

    /// How many objects, peers and namespaces of deployments there are.
    pub fn left(&self) -> (usize, usize, usize) {
        let count = |kind, arguments: &[&str]| self.list(kind, arguments).len();
        (count("cloudletdeployments", &[]), count("peers", &["-l", OURS]), count("namespaces", &["-l", OURS]))
    }

    /// The output of kubectl.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = Command::new("kubectl").args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The objects of a kind.
    pub fn list(&self, kind: &str, arguments: &[&str]) -> Vec<Value> {
        let text = self.kubectl(&[&["get", kind, "-o", "json"], arguments].concat());
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Applies objects, given as YAML or JSON.
    pub fn apply(&self, manifests: &str) {
        let file = self.world.path("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Packages a chart of `tests/charts` or `charts` beside the recipes and adds a recipe for it; more lines of the
    /// recipe may follow.
    pub fn add_chart(&self, chart: &str, more: &str) -> String {
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let places = [project.join("tests/charts").join(chart), project.join("charts").join(chart)];
        let place = places.iter().find(|place| place.exists()).unwrap_or_else(|| panic!("no chart {chart}"));
        let recipes = self.world.path("recipes");
        let packaged = Command::new("helm").arg("package").arg(place).arg("-d").arg(&recipes).output().unwrap();
        assert!(packaged.status.success(), "{}", String::from_utf8_lossy(&packaged.stderr));
        self.world.add_recipe(&format!("chart: {chart}\nversion: 0.1.0\nrestricted: false\n{more}\n")).to_string()
    }

    /// Starts a cloudlet on the cluster with the rights of tier2's account. It leads at once if no other does.
    pub fn tier2(&self, options: &[&str]) -> Running {
        self.tier2_of("sinfonia-tier2", &[], options)
    }

    /// The same with another build of the program, or more environment.
    pub fn tier2_of(&self, name: &str, environment: &[(&str, &str)], options: &[&str]) -> Running {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let state = format!("tier2-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut command = Command::new(program(name));
        command.args(["--driver", "kubernetes", "--kubeconfig"]).arg(self.world.path("account"));
        any_port(&mut command, "--port", options);
        command.arg("--recipes").arg(self.world.path("recipes")).arg("--state-directory").arg(self.world.path(&state));
        command.args(options).envs(environment.iter().copied());
        self.world.start(command)
    }

    /// Starts the client as a user without privileges; `arguments` begin with its options. `who` has a home, and so
    /// keys, of their own.
    pub fn tier3(&self, who: &str, arguments: &[&str]) -> Running {
        let home = self.world.path(&format!("home-{who}"));
        if !home.exists() {
            fs::create_dir(&home).unwrap();
            let (user, group) = self.user();
            chown(&home, Some(user), Some(group)).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        command.args(["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "env"]);
        for variable in ["HOME", "TMPDIR"] {
            command.arg(format!("{variable}={}", home.display()));
        }
        command.arg(self.world.path(CLIENT)).args(arguments).current_dir(&home);
        self.world.start(command)
    }

    /// The same until it has its answer: as long as it reads that it should ask again, it does.
    pub fn tier3_in_the_end(&self, who: &str, arguments: &[&str]) -> Finished {
        loop {
            let client = self.tier3(who, arguments).finish();
            if !client.errors.contains("it goes on, so ask again") {
                return client;
            }
        }
    }

    /// The client where every user can run it.
    fn copy_client(&self) {
        let copy = self.world.path(CLIENT);
        fs::copy(program(CLIENT), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn user(&self) -> (u32, u32) {
        let user = nix::unistd::User::from_name(USER).unwrap();
        let user = user.unwrap_or_else(|| panic!("there is no user {USER}: scripts/e2e.sh makes it"));
        (user.uid.as_raw(), user.gid.as_raw())
    }

    /// A kubeconfig of tier2's ServiceAccount.
    fn write_account(&self) {
        let token = self.kubectl(&["-n", NAMESPACE, "create", "token", "sinfonia-tier2", "--duration=3h"]);
        let admin = self.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&admin).unwrap();
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let file = self.world.path("account");
        fs::write(&file, config.to_string()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until no other run uses the cluster, or ends all processes of the clients' user, as `scripts/as-user.sh` does.
fn alone() -> File {
    let file = File::create("/run/sinfonia-test.lock").unwrap();
    file.lock().unwrap();
    file
}

/// The address of a node in the cluster's own network.
///
/// # Panics
/// When it has none.
pub fn node_address(node: &Value) -> &str {
    let mut addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let internal = addresses.find(|address| address["type"] == "InternalIP");
    internal.and_then(|address| address["address"].as_str()).unwrap_or_else(|| panic!("no address: {node}"))
}

/// The base URL of a server.
pub fn url(server: &Running) -> String {
    format!("http://{}", server.listens())
}

/// The path of a deployment, for a key that is this byte 32 times.
pub fn deploy_path(application: &str, key: u8) -> String {
    let key = sinfonia_wire::PublicKey::from([key; 32]);
    format!("/api/v1/deploy/{application}/{}", key.url_safe())
}

/// Makes a request; status and body, if it is JSON.
pub fn ask(method: &str, url: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    send(method, url, headers, ())
}

/// The same with a body.
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: impl ureq::AsSendBody) -> (u16, Value) {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(60)))
        .build()
        .into();
    let mut answer = agent.run(request.body(body).unwrap()).unwrap();
    let body = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&body).unwrap_or_default())
}

/// The standard output of a command that must succeed.
pub fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
