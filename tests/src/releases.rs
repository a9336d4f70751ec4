//! Releases of the charts on the cluster, from images and charts alone, as an operator makes them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE, OURS, node_address, send};
use crate::eventually;
use crate::process::Running;

/// Namespaces of these releases, beside [`NAMESPACE`], begin so.
pub const PREFIX: &str = "charts-";

/// The node of gateways that have to stay where they are.
pub const GATEWAY_NODE: &str = "sinfonia-worker";

/// What is made by others, whenever they like.
const NOT_OURS: [&str; 2] = ["events", "events.events.k8s.io"];

/// A cluster for releases, empty at the beginning and at the end.
pub struct Releases {
    /// The cluster.
    pub cluster: Cluster,
}

impl Releases {
    /// Waits for its turn and removes what is released, by an earlier test or by `scripts/cloudlet.sh`.
    ///
    /// # Panics
    /// Without a cluster.
    pub fn new() -> Self {
        let releases = Self { cluster: Cluster::without_cloudlet() };
        releases.remove();
        releases
    }

    /// The root of the project.
    #[must_use]
    pub fn project() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    /// What helm did, in the project's directory.
    pub fn try_helm(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("helm");
        command.args(arguments).current_dir(Self::project()).stdin(Stdio::null());
        self.cluster.world.at_home(command).output().unwrap()
    }

    /// The output of helm.
    ///
    /// # Panics
    /// When it fails.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let output = self.try_helm(arguments);
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "helm {arguments:?}: {text}{errors}\n{}", self.state());
        text.into_owned()
    }

    /// Installs a chart, or brings its release up to date, and waits until it is ready.
    pub fn release(&self, name: &str, chart: &str, values: &[&str]) -> String {
        let mut arguments = vec!["upgrade", "--install", name, chart, "--namespace", NAMESPACE, "--create-namespace"];
        arguments.extend(["--wait", "--timeout", "3m"]);
        arguments.extend(values.iter().flat_map(|value| ["--set", value]));
        self.helm(&arguments)
    }

    /// Installs tier1 so that it is reached from here, and a cloudlet by the command that its notes tell.
    pub fn both(&self) {
        self.install("charts/sinfonia-tier1", "charts/sinfonia-tier2", &[]);
    }

    /// The same from these packages of the charts, and with the gateway on [`GATEWAY_NODE`] for good.
    pub fn both_of(&self, tier1: &str, tier2: &str) {
        let node = format!("gateway.nodeSelector.kubernetes\\.io/hostname={GATEWAY_NODE}");
        self.install(tier1, tier2, &["--set", &node]);
    }

    fn install(&self, tier1: &str, tier2: &str, more: &[&str]) {
        let notes = self.release("sinfonia-tier1", tier1, &["service.type=NodePort"]);
        let next = next_command(&notes).replace("charts/sinfonia-tier2", tier2);
        let words: Vec<&str> = next.split_whitespace().skip(1).collect();
        assert_eq!(words.iter().filter(|word| **word == "--set").count(), 3, "{next}");
        self.helm(&[&words[..], &["--wait", "--timeout", "3m"], more].concat());
        self.await_report();
    }

    /// Waits until a cloudlet reports to tier1.
    pub fn await_report(&self) {
        let list = format!("{}/api/v1/cloudlets/", self.tier1());
        let authorization = format!("Bearer {}", self.token("client-token"));
        eventually("a cloudlet reports", || {
            let (status, body) = crate::cluster::ask("GET", &list, &[("Authorization", &authorization)]);
            status == 200 && body.as_array().is_some_and(|list| !list.is_empty())
        });
    }

    /// The URL of tier1.
    pub fn tier1(&self) -> String {
        self.url(NAMESPACE, "sinfonia-tier1")
    }

    /// The URL of tier2. Its service gets a port on the nodes for that, which is all that is reached from here.
    pub fn tier2(&self) -> String {
        let patch = r#"{"spec": {"type": "NodePort"}}"#;
        self.cluster.kubectl(&["-n", NAMESPACE, "patch", "service", "sinfonia-tier2", "--patch", patch]);
        self.url(NAMESPACE, "sinfonia-tier2")
    }

    /// The URL of a service by its port on the nodes.
    ///
    /// # Panics
    /// When it has none.
    pub fn url(&self, namespace: &str, service: &str) -> String {
        let port = "jsonpath={.spec.ports[0].nodePort}";
        let port = self.cluster.kubectl(&["-n", namespace, "get", "service", service, "-o", port]);
        assert!(!port.is_empty(), "{service} has no port on the nodes");
        let nodes = self.cluster.list("nodes", &[]);
        let address = format!("{}:{port}", node_address(&nodes[0]));
        // The nodes open a new port a moment later.
        eventually("the service's port is open", || std::net::TcpStream::connect(&address).is_ok());
        format!("http://{address}")
    }

    /// One of tier1's tokens.
    pub fn token(&self, key: &str) -> String {
        let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.cluster.kubectl(&["-n", NAMESPACE, "get", "secret", "sinfonia-tier1-tokens", "-o", &template])
    }

    /// Starts a client with its token, as a user without privileges.
    pub fn client(&self, who: &str, options: &[&str], command: &[&str]) -> Running {
        self.cluster.world.set("SINFONIA_TOKEN", &self.token("client-token"));
        let url = self.tier1();
        self.cluster.tier3(who, &[options, &[url.as_str(), "helloworld"], command].concat())
    }

    /// Makes a namespace where the API server holds all pods to Pod Security `restricted`.
    pub fn restricted_namespace(&self, name: &str) {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let metadata = json!({ "name": name, "labels": labels });
        self.cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }).to_string());
    }

    /// An object in the releases' namespace.
    pub fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.cluster.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// Sets how many pods a deployment has, and waits until it has them.
    pub fn scale(&self, deployment: &str, replicas: u8) {
        self.cluster.kubectl(&["-n", NAMESPACE, "scale", "deployment", deployment, &format!("--replicas={replicas}")]);
        self.cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", "--timeout=120s", "deployment", deployment]);
        let selector = format!("app.kubernetes.io/name={deployment}");
        eventually("there are as many pods", || {
            self.cluster.list("pods", &["-n", NAMESPACE, "-l", &selector]).len() == usize::from(replicas)
        });
    }

    /// Everything on the cluster, by kind, namespace and name.
    pub fn objects(&self) -> BTreeSet<String> {
        let kinds = self.cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
        let kinds: Vec<&str> = kinds.lines().filter(|kind| !NOT_OURS.contains(kind)).collect();
        let names = "-o=jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
        let all = self.cluster.kubectl(&["get", &kinds.join(","), "-A", "--ignore-not-found", names]);
        all.lines().map(str::to_owned).collect()
    }

    /// Uninstalls all releases and deletes what is left of them and of manifests.
    pub fn remove(&self) {
        let list: Value = serde_json::from_str(&self.helm(&["list", "-A", "-a", "-o", "json"])).unwrap();
        for release in list.as_array().unwrap() {
            let (name, namespace) = (release["name"].as_str().unwrap(), release["namespace"].as_str().unwrap());
            if namespace == NAMESPACE || namespace.starts_with(PREFIX) {
                self.helm(&["uninstall", name, "--namespace", namespace, "--wait", "--timeout", "2m"]);
            }
        }
        let manifests = Self::project().join("deploy/kubernetes");
        let manifests = manifests.to_str().unwrap();
        self.cluster.kubectl(&["delete", "--ignore-not-found", "--wait=false", "-R", "-f", manifests]);
        // Helm keeps the pods of its tests that failed.
        let ours = "app.kubernetes.io/part-of=sinfonia";
        self.cluster.kubectl(&["-n", NAMESPACE, "delete", "pods", "-l", ours, "--wait=false"]);
        for namespace in self.namespaces() {
            self.cluster.kubectl(&["delete", "namespace", &namespace, "--ignore-not-found", "--wait=false"]);
        }
        let pods = ["-n", NAMESPACE];
        eventually("nothing of the releases is left", || {
            self.namespaces().is_empty() && self.cluster.list("pods", &pods).is_empty()
        });
    }

    /// Those of tests and of deployments.
    fn namespaces(&self) -> Vec<String> {
        let all = self.cluster.list("namespaces", &[]);
        let key = OURS.split('=').next().unwrap();
        let is_ours =
            |object: &Value, name: &str| name.starts_with(PREFIX) || object["metadata"]["labels"].get(key).is_some();
        let named = all.iter().filter_map(|object| Some((object, object["metadata"]["name"].as_str()?)));
        named.filter(|(object, name)| is_ours(object, name)).map(|(_, name)| name.to_owned()).collect()
    }

    /// For the message of a test that fails.
    fn state(&self) -> String {
        let output = Command::new("kubectl").args(["-n", NAMESPACE, "get", "pods,events"]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }
}

impl Default for Releases {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Releases {
    fn drop(&mut self) {
        // A test that fails shows its own reason; the next one removes what this leaves.
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

/// How tier1 answers the report of a cloudlet that has this token.
///
/// # Panics
/// When it does not answer.
#[must_use]
pub fn report(tier1: &str, token: &str) -> u16 {
    let report = json!({ "uuid": "6a0a7b0e-52a7-4a8c-9c0b-3f1f2d7f5a11", "endpoint": "http://198.51.100.1/api/v1/deploy",
        "resources": {} });
    let headers = [("Authorization", &*format!("Bearer {token}")), ("Content-Type", "application/json")];
    send("POST", &format!("{tier1}/api/v1/cloudlets/"), &headers, report.to_string()).0
}

/// The command by which notes say to install a cloudlet, in one line.
fn next_command(notes: &str) -> String {
    let from = notes.find("helm install sinfonia-tier2").unwrap_or_else(|| panic!("no next command: {notes}"));
    let mut command = String::new();
    for line in notes[from..].lines() {
        let line = line.trim();
        match line.strip_suffix('\\') {
            Some(more) => command.push_str(more),
            None => return command + line,
        }
    }
    command
}
