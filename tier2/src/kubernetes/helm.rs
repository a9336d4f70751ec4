//! Installs charts by the helm program, acting as the one account that may do so in a deployment's namespace.
//!
//! Helm finds nothing of its user's home and gets its credentials in a file that only this user can read. It dies with
//! this process, however that dies, and what a killed Helm left half done does not hinder the next installation.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};
use sinfonia_recipes::ChartSource;
use sinfonia_wire::DeploymentName;
use tracing::{Instrument as _, info, info_span, warn};

use super::workloads::Kinds;

pub mod access;
mod charts;
mod classify;
mod directory;
mod error;
pub mod guard;
mod process;
#[cfg(test)]
mod testing;

use access::Access;
use charts::Charts;
use directory::Directory;
pub use error::HelmError;
use process::{Failure, Runner};

/// Helm ends hooks this long before it would be killed, so that it can say what went wrong.
const HOOK_MARGIN: Duration = Duration::from_secs(5);

/// How long `helm version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// How often an installation is tried while the account's rights are new: API servers learn of them one by one.
const RIGHTS_TRIES: u32 = 6;
const FIRST_RIGHTS_PAUSE: Duration = Duration::from_millis(50);

/// How the network is reached from here; the same for us and for Helm.
const PASSED: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// How charts are installed.
#[derive(Debug, Clone)]
pub struct HelmOptions {
    /// The helm program: a path, or a name to be found by PATH.
    pub program: PathBuf,
    /// Where charts, what the API server offers, and (briefly) credentials are kept; made with mode 0700.
    pub cache: PathBuf,
    /// How long one installation may take, the chart's hooks included. Less than a token lives (10 minutes).
    pub install_limit: Duration,
    /// How long each of the two tries to uninstall may take.
    pub uninstall_limit: Duration,
    /// Helm's file with credentials for OCI registries.
    pub registry_config: Option<PathBuf>,
    /// OCI registries (`host[:port]`) that are asked without TLS; those on this machine always are.
    pub plain_http: Vec<String>,
    /// The executable that guards Helm, see [`guard`].
    pub guard: PathBuf,
}

impl HelmOptions {
    /// The defaults, with this directory for what is kept.
    #[must_use]
    pub fn new(cache: PathBuf) -> Self {
        Self {
            program: "helm".into(),
            cache,
            install_limit: Duration::from_secs(120),
            uninstall_limit: Duration::from_secs(30),
            registry_config: None,
            plain_http: Vec::new(),
            guard: "/proc/self/exe".into(),
        }
    }
}

/// What is to be installed. Its namespace has its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its name.
    pub name: DeploymentName,
    /// The chart.
    pub chart: ChartSource,
    /// The recipe's values.
    pub values: Map<String, Value>,
}

/// Runs Helm. Clones share everything.
///
/// Every function may be dropped half way; that kills Helm.
#[derive(Clone)]
pub struct Helm(Arc<Inner>);

struct Inner {
    runner: Runner,
    charts: Charts,
    directory: Directory,
    install_limit: Duration,
    uninstall_limit: Duration,
}

impl Helm {
    /// Looks for the program, makes the directory, and removes what killed processes left in it.
    ///
    /// # Errors
    /// [`HelmError::Missing`] and [`HelmError::Directory`].
    pub fn new(options: HelmOptions) -> Result<Self, HelmError> {
        let program = process::find(&options.program)?;
        let directory = Directory::open(&options.cache)?;
        let environment = environment(&directory, options.registry_config.as_deref());
        let runner = Runner { program, guard: options.guard, environment };
        let charts = Charts::new(directory.charts(), options.plain_http);
        let (install_limit, uninstall_limit) = (options.install_limit, options.uninstall_limit);
        Ok(Self(Arc::new(Inner { runner, charts, directory, install_limit, uninstall_limit })))
    }

    /// Helm's version, as `v3.20.0`.
    ///
    /// # Errors
    /// When Helm cannot be run or does not say.
    pub async fn version(&self) -> Result<String, HelmError> {
        let arguments = ["version", "--template", "{{.Version}}"].map(OsString::from);
        let output = self.0.run(&arguments, VERSION_LIMIT).await?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// Fetches the chart if it is not here yet, and looks whether it is one.
    ///
    /// # Errors
    /// See [`HelmError`].
    pub async fn check_chart(&self, chart: &ChartSource) -> Result<(), HelmError> {
        self.0.check_chart(chart).await
    }

    /// Makes the release as it is described, whatever was there, and returns which kinds of workload it has. It does
    /// not wait for them.
    ///
    /// # Errors
    /// See [`HelmError`]; the objects made so far stay until [`Helm::uninstall`].
    pub async fn install(&self, release: &Release, access: &Access) -> Result<Kinds, HelmError> {
        let span = info_span!("helm install", k8s.namespace.name = %release.name);
        self.0.install(release, access).instrument(span).await
    }

    /// Removes the release and its objects; that there is none is no error.
    ///
    /// # Errors
    /// See [`HelmError`]; it may be repeated.
    pub async fn uninstall(&self, name: &DeploymentName, access: &Access) -> Result<(), HelmError> {
        let span = info_span!("helm uninstall", k8s.namespace.name = %name);
        self.0.uninstall(name, access).instrument(span).await
    }
}

impl Inner {
    async fn check_chart(&self, chart: &ChartSource) -> Result<(), HelmError> {
        let chart = self.charts.locate(chart, &self.runner, &self.directory).await?;
        let arguments = [OsString::from("show"), OsString::from("chart"), chart.into_os_string()];
        self.run(&arguments, VERSION_LIMIT).await.map(drop)
    }

    async fn install(&self, release: &Release, access: &Access) -> Result<Kinds, HelmError> {
        let chart = self.charts.locate(&release.chart, &self.runner, &self.directory).await?;
        let files = self.directory.private()?;
        let kubeconfig = files.write("kubeconfig", &access.kubeconfig())?;
        let values = files.write("values", &Value::Object(release.values.clone()))?;
        let arguments = install_arguments(&release.name, &chart, &kubeconfig, &values, self.install_limit);
        let (mut purged, mut tries, mut pause) = (false, 1, FIRST_RIGHTS_PAUSE);
        loop {
            match self.run(&arguments, self.install_limit).await {
                Ok(output) => return Ok(kinds(&output)),
                Err(HelmError::Busy) if !purged => {
                    info!("an earlier installation was cut off: its remains are removed first");
                    purged = true;
                    self.remove(&release.name, &kubeconfig, true).await?;
                }
                Err(HelmError::NoRights(reason)) if tries < RIGHTS_TRIES => {
                    tracing::debug!(reason, "the account's rights are not known to the API server yet");
                    tries += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn uninstall(&self, name: &DeploymentName, access: &Access) -> Result<(), HelmError> {
        let files = self.directory.private()?;
        let kubeconfig = files.write("kubeconfig", &access.kubeconfig())?;
        match self.remove(name, &kubeconfig, false).await {
            Err(error) if !error.is_retryable() => {
                warn!(%error, "the release's hooks are skipped");
                self.remove(name, &kubeconfig, true).await
            }
            result => result,
        }
    }

    async fn remove(&self, name: &DeploymentName, kubeconfig: &Path, no_hooks: bool) -> Result<(), HelmError> {
        let mut arguments: Vec<OsString> = vec!["uninstall".into(), name.as_str().into(), "--ignore-not-found".into()];
        if no_hooks {
            arguments.push("--no-hooks".into());
        }
        arguments.extend(common(name, kubeconfig, self.uninstall_limit));
        self.run(&arguments, self.uninstall_limit).await.map(drop)
    }

    async fn run(&self, arguments: &[OsString], limit: Duration) -> Result<Vec<u8>, HelmError> {
        self.runner.run(arguments, limit).await.map_err(|failure| match failure {
            Failure::NotStarted(reason) => {
                HelmError::Missing { program: self.runner.program.display().to_string(), reason }
            }
            Failure::Killed(signal) => HelmError::Killed { signal },
            Failure::TimeLimit => HelmError::TimeLimit { seconds: limit.as_secs() },
            Failure::Refused(words) => {
                tracing::debug!(%words, "helm failed");
                classify::classify(&words)
            }
        })
    }
}

fn install_arguments(
    name: &DeploymentName,
    chart: &Path,
    kubeconfig: &Path,
    values: &Path,
    limit: Duration,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["upgrade".into(), "--install".into(), name.as_str().into(), chart.into()];
    // The API server checks objects anyway; Helm's own check would double the time. Two revisions are what Helm
    // needs to upgrade.
    let options = ["--history-max", "2", "--disable-openapi-validation", "--output", "json", "--values"];
    arguments.extend(options.map(OsString::from));
    arguments.push(values.into());
    arguments.extend(common(name, kubeconfig, limit));
    arguments
}

fn common(name: &DeploymentName, kubeconfig: &Path, limit: Duration) -> Vec<OsString> {
    let hooks = limit.saturating_sub(HOOK_MARGIN).max(Duration::from_secs(1));
    vec![
        "--namespace".into(),
        name.as_str().into(),
        "--kubeconfig".into(),
        kubeconfig.into(),
        "--timeout".into(),
        format!("{}s", hooks.as_secs()).into(),
    ]
}

/// Everything that Helm would look for in a home or an environment.
fn environment(directory: &Directory, registry_config: Option<&Path>) -> Vec<(&'static str, OsString)> {
    let home = |part: &str| directory.home().join(part).into_os_string();
    let passed = PASSED.into_iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value)));
    let own = [
        ("HOME", home("")),
        ("KUBECACHEDIR", home("kube")),
        ("HELM_CACHE_HOME", home("cache")),
        ("HELM_CONFIG_HOME", home("config")),
        ("HELM_DATA_HOME", home("data")),
        ("HELM_NO_PLUGINS", "1".into()),
        ("HELM_REGISTRY_CONFIG", registry_config.map_or_else(|| home("registry.json"), Into::into)),
        ("HELM_REPOSITORY_CONFIG", home("repositories.yaml")),
        ("KUBECONFIG", "/dev/null".into()),
        ("PATH", "/usr/bin:/bin".into()),
        ("LANG", "C.UTF-8".into()),
    ];
    own.into_iter().chain(passed).collect()
}

/// Which workloads Helm's answer names; all kinds if it cannot be read.
fn kinds(output: &[u8]) -> Kinds {
    #[derive(serde::Deserialize)]
    struct Installed {
        manifest: String,
    }
    match serde_json::from_slice::<Installed>(output) {
        Ok(installed) => Kinds::of_manifest(&installed.manifest),
        Err(_) => Kinds::all(),
    }
}
