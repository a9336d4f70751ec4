//! Whether the cluster holds exactly what was asked for: of each deployment one object, one namespace, one peer and one
//! release, and nothing else.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use sinfonia_tests::cluster::{Cluster, OURS, deploy_path};
use sinfonia_tests::eventually;
use sinfonia_wire::PublicKey;

/// How long a loaded machine may take to settle; it only ends a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A request that may wait as long as tier2 lets it.
pub(crate) const LONG: (&str, &str) = ("Prefer", "wait=280");

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Value,
}

impl Answer {
    /// The code of an error.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The name of the deployment in a good answer.
    pub(crate) fn name(&self) -> &str {
        self.body[0]["DeploymentName"].as_str().unwrap_or_else(|| panic!("no deployment in {self:?}"))
    }
}

/// Asks for something of a deployment. The error is that of a server that has died.
pub(crate) fn ask(
    method: &str,
    base: &str,
    (application, key): (&str, u8),
    headers: &[(&str, &str)],
) -> Result<Answer, ureq::Error> {
    let mut request =
        ureq::http::Request::builder().method(method).uri(format!("{base}{}", deploy_path(application, key)));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let mut answer = agent.run(request.body(())?)?;
    let retry_after = answer.headers().get("Retry-After").map(|value| value.to_str().unwrap().parse().unwrap());
    let body = answer.body_mut().read_to_string()?;
    Ok(Answer { status: answer.status().as_u16(), retry_after, body: serde_json::from_str(&body).unwrap_or_default() })
}

/// Waits until a check finds nothing wrong.
pub(crate) fn settles(log: impl Fn() -> String, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(wrong) = check() {
        assert!(Instant::now() < deadline, "it does not settle: {wrong}\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether there are exactly the deployments of these keys, all of them usable, and all of a chart that makes a
/// ConfigMap named `nothing`.
///
/// # Errors
/// What is wrong.
pub(crate) fn holds(cluster: &Cluster, wanted: &BTreeSet<u8>) -> Result<(), String> {
    let wanted = wanted.iter().map(|key| PublicKey::from([*key; 32])).collect();
    let names = deployed(cluster, &wanted)?;
    let made = cluster.list("configmaps", &["-A", "--field-selector", "metadata.name=nothing"]);
    let made = made.iter().map(|object| text(object, "/metadata/namespace").to_owned()).collect();
    same("namespaces with the chart's object", &made, &names)
}

/// Whether there are exactly the deployments of these keys, all of them usable; their names.
///
/// # Errors
/// What is wrong.
pub(crate) fn deployed(cluster: &Cluster, wanted: &BTreeSet<PublicKey>) -> Result<BTreeSet<String>, String> {
    let objects = cluster.list("cloudletdeployments", &[]);
    let keys: BTreeSet<PublicKey> = objects.iter().map(|object| text(object, "/spec/key").parse().unwrap()).collect();
    same("objects", &keys, wanted)?;
    same("number of objects", &objects.len(), &wanted.len())?;
    let phases: BTreeSet<&str> = objects.iter().map(|object| text(object, "/status/phase")).collect();
    if phases.iter().any(|phase| *phase != "Deployed") {
        return Err(format!("phases are {phases:?}"));
    }
    // Name, address and owner: unlike each other, and the same everywhere.
    let given: Vec<[String; 3]> = objects
        .iter()
        .map(|object| {
            ["/status/deploymentName", "/status/clientAddresses/0", "/metadata/uid"].map(|at| owned(object, at))
        })
        .collect();
    for part in 0..3 {
        let different: BTreeSet<&String> = given.iter().map(|given| &given[part]).collect();
        same("number of different names, addresses and owners", &different.len(), &objects.len())?;
    }
    let given: BTreeSet<[String; 3]> = given.into_iter().collect();
    for (kind, address) in [("peers", "/spec/allowedIPs/0"), ("namespaces", CLIENT_LABEL)] {
        let found = cluster.list(kind, &["-l", OURS]);
        same("number of objects around", &found.len(), &given.len())?;
        let found = found.iter().map(|object| {
            let [name, address, owner] =
                ["/metadata/name", address, "/metadata/ownerReferences/0/uid"].map(|at| owned(object, at));
            [name, address.trim_end_matches("/32").to_owned(), owner]
        });
        same(kind, &found.collect(), &given)?;
    }
    let names = given.into_iter().map(|[name, ..]| name).collect();
    same("releases", &releases(cluster, &names)?, &names)?;
    Ok(names)
}

const CLIENT_LABEL: &str = "/metadata/labels/findcloudlet.org~1client";

/// The installed releases in these namespaces; each is the only one there.
fn releases(cluster: &Cluster, names: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    let secrets = cluster.list("secrets", &["-A", "-l", "owner=helm"]);
    let ours = secrets.iter().filter(|secret| names.contains(text(secret, "/metadata/namespace")));
    let mut installed = BTreeSet::new();
    for secret in ours {
        let release = text(secret, "/metadata/labels/name");
        same("release", &release, &text(secret, "/metadata/namespace"))?;
        if text(secret, "/metadata/labels/status") == "deployed" && !installed.insert(release.to_owned()) {
            return Err(format!("{release} is installed twice"));
        }
    }
    Ok(installed)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}")) }
}

/// A text in an object, empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn owned(object: &Value, pointer: &str) -> String {
    text(object, pointer).to_owned()
}

/// Lets the next replica lead at once, after the one that led was killed: without this it waits until the lease is
/// over, which has a test of its own.
pub(crate) fn forget_leader(cluster: &Cluster) {
    cluster.kubectl(&["-n", "sinfonia", "delete", "lease", "sinfonia-tier2", "--ignore-not-found"]);
}

/// Waits until Helm has begun with a chart whose hook takes a while.
pub(crate) fn await_mid_install(cluster: &Cluster) {
    let pending = ["-A", "-l", "owner=helm,status=pending-install"];
    let is_in = |secret: &Value, namespaces: &[Value]| {
        let namespace = text(secret, "/metadata/namespace");
        namespaces.iter().any(|found| text(found, "/metadata/name") == namespace)
    };
    eventually("helm is in mid-install", || {
        let namespaces = cluster.list("namespaces", &["-l", OURS]);
        cluster.list("secrets", &pending).iter().any(|secret| is_in(secret, &namespaces))
    });
}
