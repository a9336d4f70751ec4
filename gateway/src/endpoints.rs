//! Remembers where clients are, so that after a restart the gateway can call them: they need not notice first that
//! their sessions are gone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::backend::{Backend, Endpoints};

const FILE: &str = "endpoints.json";
/// How often to look whether clients have moved. One that moved since is found when it calls.
const INTERVAL: Duration = Duration::from_secs(2);

/// The state directory cannot be used.
#[derive(Debug, Error)]
#[error("cannot {what} {}: {reason}; --state-directory must be a directory that this user can write", path.display())]
pub struct EndpointsError {
    what: &'static str,
    path: PathBuf,
    reason: io::Error,
}

/// The file they are in.
#[derive(Debug, Clone)]
pub(crate) struct EndpointsFile {
    directory: PathBuf,
}

impl EndpointsFile {
    /// The file in this directory, which is made if need be.
    ///
    /// # Errors
    /// If there can be no such directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, EndpointsError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|reason| EndpointsError {
            what: "make",
            path: directory.into(),
            reason,
        })?;
        Ok(Self { directory: directory.into() })
    }

    /// What is remembered; nothing if it cannot be read, which costs clients some seconds and no more.
    #[must_use]
    pub(crate) fn read(&self) -> Endpoints {
        let path = self.directory.join(FILE);
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "clients' endpoints cannot be read: they have to call first");
            }
            Endpoints::new()
        })
    }

    /// Removes the file.
    ///
    /// # Errors
    /// If it is there and stays.
    pub(crate) fn remove(&self) -> Result<(), EndpointsError> {
        for name in [FILE.to_owned(), format!(".{FILE}.new")] {
            let path = self.directory.join(name);
            match fs::remove_file(&path) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    return Err(EndpointsError { what: "remove", path, reason });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Replaces the file so that a crash leaves the old or the new one.
    fn write(&self, endpoints: &Endpoints) -> Result<(), EndpointsError> {
        let path = self.directory.join(FILE);
        let draft = self.directory.join(format!(".{FILE}.new"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(endpoints)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|reason| EndpointsError { what: "write", path, reason })
    }
}

/// Remembers the backend's peers for ever.
pub(crate) async fn remember(file: EndpointsFile, backend: Arc<dyn Backend>, mut remembered: Endpoints) {
    let mut timer = tokio::time::interval(INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        timer.tick().await;
        let Ok(traffic) = backend.traffic() else {
            continue;
        };
        let endpoints: Endpoints =
            traffic.into_iter().filter_map(|(key, traffic)| Some((key, traffic.endpoint?))).collect();
        if endpoints == remembered {
            continue;
        }
        let (file, written) = (file.clone(), endpoints.clone());
        let result = tokio::task::spawn_blocking(move || file.write(&written)).await;
        match result {
            Ok(Ok(())) => {
                is_failing = false;
                remembered = endpoints;
            }
            Ok(Err(error)) if !std::mem::replace(&mut is_failing, true) => {
                tracing::warn!("{error}; after a restart clients have to call first");
            }
            Ok(Err(_)) => {}
            // The runtime is stopping.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_by_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let file = EndpointsFile::open(&path).unwrap();
        assert_eq!(file.read(), Endpoints::new());
        let endpoints = Endpoints::from([([7; 32].into(), "192.0.2.7:51820".parse().unwrap())]);
        file.write(&endpoints).unwrap();
        assert_eq!(file.read(), endpoints);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(FILE))), (0o700, 0o600));
        fs::write(path.join(FILE), "{").unwrap();
        assert_eq!(file.read(), Endpoints::new(), "a broken file is as none");
    }
}
