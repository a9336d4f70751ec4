//! Brings a chart to where Helm can read it. What was fetched is kept and revalidated.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};
use sinfonia_recipes::ChartSource;
use sinfonia_wire::ChartVersion;
use tokio::time::Instant;
use tracing::{Instrument as _, info_span, warn};
use url::{Host, Url};

use super::{
    HelmError, classify,
    directory::Directory,
    process::{Failure, Runner},
};

mod download;
#[cfg(test)]
mod tests;

use download::{Downloader, Validators};

/// The largest chart, bytes. Kubernetes keeps a release in a Secret of at most 1 MiB.
const SIZE_LIMIT: u64 = 16 << 20;

/// How long a chart is used without asking whether it changed; a version in a registry hardly ever does.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_IN_REGISTRY: Duration = Duration::from_secs(600);

/// How long a server that fails is left alone, so that those who wait do not wait one after another.
const REST: Duration = Duration::from_secs(2);

/// How long one `helm pull` may take.
const PULL_LIMIT: Duration = Duration::from_secs(60);

/// How long an unused chart is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most charts that are remembered.
const REMEMBERED: usize = 4096;

/// Charts of files, web servers and registries.
pub(super) struct Charts {
    directory: PathBuf,
    plain_http: Vec<String>,
    downloader: Downloader,
    /// The lock of an entry lets one request fetch what many wait for.
    entries: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
}

#[derive(Default)]
struct Entry {
    fresh_until: Option<Instant>,
    validators: Validators,
    failure: Option<HelmError>,
}

impl Charts {
    pub(super) fn new(directory: PathBuf, plain_http: Vec<String>) -> Self {
        remove_old(&directory);
        Self { directory, plain_http, downloader: Downloader::new(), entries: Mutex::default() }
    }

    /// The file that holds the chart.
    pub(super) async fn locate(
        &self,
        source: &ChartSource,
        runner: &Runner,
        directory: &Directory,
    ) -> Result<PathBuf, HelmError> {
        match source {
            ChartSource::File(file) => existing(file),
            ChartSource::Url(url) => {
                let file = self.file(url.as_str());
                self.kept(url.as_str(), &file, FRESH, async |validators| {
                    self.downloader.fetch(url, validators, &file).await
                })
                .await
            }
            ChartSource::Oci { reference, version } => {
                let name = format!("{reference}:{version}");
                let file = self.file(&name);
                self.kept(&name, &file, FRESH_IN_REGISTRY, async |_| {
                    let span = info_span!("helm pull", url.full = %reference);
                    self.pull(reference, version, &file, runner, directory).instrument(span).await?;
                    Ok(Validators::default())
                })
                .await
            }
        }
    }

    /// The file if it is fresh, else what `fetch` makes of it; the old one if the server fails.
    async fn kept(
        &self,
        name: &str,
        file: &Path,
        fresh: Duration,
        fetch: impl AsyncFnOnce(Validators) -> Result<Validators, HelmError>,
    ) -> Result<PathBuf, HelmError> {
        let entry = self.entry(name);
        let mut entry = entry.lock().await;
        let here = file.exists();
        if entry.fresh_until.is_some_and(|end| Instant::now() < end) {
            match &entry.failure {
                Some(failure) => return Err(failure.clone()),
                None if here => return Ok(file.to_owned()),
                None => {}
            }
        }
        let known = if here { entry.validators.clone() } else { Validators::default() };
        *entry = match fetch(known).await {
            Ok(validators) => Entry { fresh_until: soon(fresh), validators, failure: None },
            Err(error @ HelmError::ChartUnavailable { .. }) if here => {
                warn!(%error, "going on with the chart as it was");
                Entry { fresh_until: soon(REST), validators: entry.validators.clone(), failure: None }
            }
            Err(error) => Entry { fresh_until: soon(REST), failure: Some(error), ..Entry::default() },
        };
        entry.failure.clone().map_or_else(|| Ok(file.to_owned()), Err)
    }

    async fn pull(
        &self,
        reference: &Url,
        version: &ChartVersion,
        file: &Path,
        runner: &Runner,
        directory: &Directory,
    ) -> Result<(), HelmError> {
        let target = directory.private()?;
        let mut arguments: Vec<OsString> = ["pull", reference.as_str(), "--version", version.as_str(), "--destination"]
            .into_iter()
            .map(OsString::from)
            .collect();
        arguments.push(target.path().into());
        if self.is_plain(reference) {
            arguments.push("--plain-http".into());
        }
        let chart = || format!("{reference}:{version}");
        let unavailable = |reason: String| HelmError::ChartUnavailable { chart: chart(), reason };
        runner.run(&arguments, PULL_LIMIT).await.map_err(|failure| match failure {
            Failure::NotStarted(reason) => HelmError::Missing { program: runner.program.display().to_string(), reason },
            Failure::Killed(signal) => HelmError::Killed { signal },
            Failure::TimeLimit => {
                unavailable(format!("the registry did not deliver within {} s", PULL_LIMIT.as_secs()))
            }
            Failure::Refused(words) if words.contains("not found") => HelmError::ChartNotFound { chart: chart() },
            Failure::Refused(words) => unavailable(classify::reason(&words)),
        })?;
        let pulled = |error: io::Error| unavailable(error.to_string());
        let package = only_package(target.path()).map_err(pulled)?;
        if package.metadata().map_err(pulled)?.len() > SIZE_LIMIT {
            return Err(too_large(&chart()));
        }
        fs::rename(&package, file).map_err(pulled)
    }

    fn is_plain(&self, reference: &Url) -> bool {
        // In a URL of this scheme every IPv4 address counts as a name.
        let address = |name: &str| name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let here = match reference.host() {
            Some(Host::Domain(name)) => name == "localhost" || address(name),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        here || self.plain_http.iter().any(|registry| registry == reference.authority())
    }

    /// The name is a hash: nothing in a URL can be a path here.
    fn file(&self, name: &str) -> PathBuf {
        let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(hash + ".tgz")
    }

    fn entry(&self, name: &str) -> Arc<tokio::sync::Mutex<Entry>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= REMEMBERED {
            // Those that nobody waits for can be asked for anew.
            entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        Arc::clone(entries.entry(name.to_owned()).or_default())
    }
}

/// Clients learn the file's name but not where it lies here.
fn existing(file: &Path) -> Result<PathBuf, HelmError> {
    let chart = || file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let metadata = file.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HelmError::ChartNotFound { chart: chart() },
        _ => HelmError::ChartUnavailable { chart: chart(), reason: error.to_string() },
    })?;
    if !metadata.is_file() {
        return Err(HelmError::ChartInvalid(format!("{} is not a packaged chart (.tgz)", chart())));
    }
    if metadata.len() > SIZE_LIMIT {
        return Err(too_large(&chart()));
    }
    std::path::absolute(file).map_err(|error| HelmError::ChartUnavailable { chart: chart(), reason: error.to_string() })
}

fn too_large(chart: &str) -> HelmError {
    HelmError::ChartInvalid(format!("{chart} is larger than {} MiB", SIZE_LIMIT >> 20))
}

fn only_package(directory: &Path) -> io::Result<PathBuf> {
    let files = directory.read_dir()?.collect::<Result<Vec<_>, _>>()?;
    let mut packages =
        files.into_iter().map(|entry| entry.path()).filter(|path| path.extension() == Some("tgz".as_ref()));
    packages.next().ok_or_else(|| io::Error::other("the registry holds no packaged chart there"))
}

fn soon(delay: Duration) -> Option<Instant> {
    Instant::now().checked_add(delay)
}

fn remove_old(directory: &Path) {
    let Some(limit) = SystemTime::now().checked_sub(KEPT) else { return };
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        if entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|modified| modified < limit) {
            // Another process may have been quicker.
            let _ = fs::remove_file(entry.path());
        }
    }
}
