//! What survives a restart: the cloudlet's uuid and key, and the deployments with a live lease.
//!
//! Everything lies in one directory of mode 0700, locked by the tier2 that uses it. Files are replaced atomically.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sinfonia_tunnel::PrivateKey;
use sinfonia_wire::{ApplicationId, CloudletId, DeploymentName, PublicKey};
use thiserror::Error;
use time::OffsetDateTime;

use crate::deployment::{DeploymentId, Plan};

#[cfg(test)]
mod tests;

const CLOUDLET: &str = "cloudlet-uuid";
const KEY: &str = "private-key";
const DEPLOYMENTS: &str = "deployments.json";
const DRAINING: &str = "draining";
const LOCK: &str = "lock";
const VERSION: u32 = 1;

/// Remembers deployments.
pub trait Store: Send + Sync {
    /// Replaces what is remembered. Never called while an earlier call is under way.
    fn save(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), StateError>>;

    /// Remembers whether the cloudlet is being drained.
    fn save_draining(&self, draining: bool) -> BoxFuture<'static, Result<(), StateError>>;
}

/// What is remembered of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The application.
    pub application: ApplicationId,
    /// The client.
    pub key: PublicKey,
    /// Its name.
    pub name: DeploymentName,
    /// The client's addresses.
    pub addresses: Vec<IpAddr>,
    /// When it was first asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When its lease ends.
    #[serde(with = "time::serde::rfc3339")]
    pub lease_end: OffsetDateTime,
    /// Where the client's packets came from, so that it can be called after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The address it was first asked for from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

impl Record {
    /// What is to be remembered of this plan.
    #[must_use]
    pub fn of(plan: &Plan, lease_end: OffsetDateTime, endpoint: Option<SocketAddr>) -> Self {
        Self {
            application: plan.id.application,
            key: plan.id.key,
            name: plan.name.clone(),
            addresses: plan.addresses.clone(),
            created: plan.created,
            lease_end,
            endpoint,
            client: plan.client,
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(&self) -> DeploymentId {
        DeploymentId { application: self.application, key: self.key }
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// Another tier2 has it.
    #[error("{0} is in use by another sinfonia-tier2: stop that one, or give this one its own --state-directory")]
    InUse(PathBuf),
    /// Somebody else's directory, which must not be closed to them.
    #[error(
        "{0} holds other files and is open to other users, who would be shut out: give --state-directory a directory of \
         its own"
    )]
    Shared(PathBuf),
    /// No space or quota.
    #[error("no space is left for {0}: free some, or give another --state-directory")]
    NoSpace(PathBuf),
    /// It cannot be read or written.
    #[error("cannot {what} {path}: {reason}; --state-directory must be a directory that this user can write")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The writer has ended.
    #[error("this cloudlet is stopping")]
    Stopped,
}

impl StateError {
    fn new(what: &'static str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(path.to_owned()),
            _ => Self::Io { what, path: path.to_owned(), reason: error.to_string() },
        }
    }
}

/// The directory, ours as long as this lives.
pub struct StateDirectory {
    files: Arc<Files>,
    _lock: Flock<File>,
}

struct Files(PathBuf);

impl StateDirectory {
    /// Makes the directory if need be, locks it, and makes sure that it can be written.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| StateError::new("make", path, &error))?;
        if is_shared(path).map_err(|error| StateError::new("read", path, &error))? {
            return Err(StateError::Shared(path.to_owned()));
        }
        let lock = lock(path)?;
        let files = Files(path.to_owned());
        // It may be an existing directory with wider access.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(|error| StateError::new("protect", path, &error))?;
        Ok(Self { files: Arc::new(files), _lock: lock })
    }

    /// The cloudlet's uuid, made at the first start.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn cloudlet(&self) -> Result<CloudletId, StateError> {
        let known = self.files.read(CLOUDLET, |text| text.trim().parse().ok())?;
        let cloudlet = known.unwrap_or_else(CloudletId::random);
        // Written in any case: this is where a full or read-only file system shows before clients come.
        self.files.write(CLOUDLET, format!("{cloudlet}\n").as_bytes())?;
        Ok(cloudlet)
    }

    /// The cloudlet's WireGuard key, made at the first start.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn private_key(&self) -> Result<PrivateKey, StateError> {
        if let Some(key) = self.files.read(KEY, |text| text.trim().parse().ok())? {
            return Ok(key);
        }
        let key = PrivateKey::generate();
        self.files.write(KEY, key.to_base64().as_bytes())?;
        Ok(key)
    }

    /// Whether the cloudlet was being drained.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn draining(&self) -> Result<bool, StateError> {
        Ok(self.files.read(DRAINING, |text| text.trim().parse().ok())?.unwrap_or(false))
    }

    /// The remembered deployments.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn deployments(&self) -> Result<Vec<Record>, StateError> {
        let parse = |text: &str| {
            let saved: Saved = serde_json::from_str(text).ok()?;
            (saved.version == VERSION).then_some(saved.deployments)
        };
        Ok(self.files.read(DEPLOYMENTS, parse)?.unwrap_or_default())
    }

    /// Where deployments are remembered from now on.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.files) as Arc<dyn Store>
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    deployments: Vec<Record>,
}

impl Store for Files {
    fn save(&self, deployments: Vec<Record>) -> BoxFuture<'static, Result<(), StateError>> {
        let files = Self(self.0.clone());
        let path = self.0.join(DEPLOYMENTS);
        async move {
            let write = move || {
                let saved = Saved { version: VERSION, deployments };
                let text = serde_json::to_vec_pretty(&saved).map_err(io::Error::from);
                let text = text.map_err(|error| StateError::new("write", &path, &error))?;
                files.write(DEPLOYMENTS, &text)
            };
            tokio::task::spawn_blocking(write).await.unwrap_or(Err(StateError::Stopped))
        }
        .boxed()
    }

    fn save_draining(&self, draining: bool) -> BoxFuture<'static, Result<(), StateError>> {
        let files = Self(self.0.clone());
        let write = move || files.write(DRAINING, format!("{draining}\n").as_bytes());
        async move { tokio::task::spawn_blocking(write).await.unwrap_or(Err(StateError::Stopped)) }.boxed()
    }
}

impl Files {
    /// What `parse` makes of a file, nothing if there is none. A file it refuses is moved aside.
    fn read<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, StateError> {
        let path = self.0.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::new("read", &path, &error)),
        };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(parse);
        if parsed.is_none() {
            self.move_aside(&path)?;
        }
        Ok(parsed)
    }

    fn move_aside(&self, path: &Path) -> Result<(), StateError> {
        let seconds = OffsetDateTime::now_utc().unix_timestamp();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = (0..)
            .map(|n| self.0.join(format!("{name}.corrupt-{}", seconds + n)))
            .find(|aside| !aside.exists())
            .unwrap_or_default();
        fs::rename(path, &aside).map_err(|error| StateError::new("move aside", path, &error))?;
        tracing::warn!(file = %path.display(), kept_as = %aside.display(), "state file is corrupt: moved aside, starting without it");
        Ok(())
    }

    /// Replaces a file so that a crash leaves the old or the new one.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.0.join(name);
        let draft = self.0.join(format!(".{name}.new"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| {
            // Half a draft takes space others may need; if it cannot be removed the next write truncates it.
            let _ = fs::remove_file(&draft);
            StateError::new("write", &path, &error)
        })
    }
}

/// Whether a directory that others may enter has something in it but no cloudlet, as /etc has.
fn is_shared(directory: &Path) -> io::Result<bool> {
    let is_open = fs::metadata(directory)?.permissions().mode() & 0o077 != 0;
    if !is_open || [CLOUDLET, KEY, DEPLOYMENTS].iter().any(|own| directory.join(own).exists()) {
        return Ok(false);
    }
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        // What a volume's root has, and what a start leaves that failed half-way.
        if name != "lost+found" && name != LOCK {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock(directory: &Path) -> Result<Flock<File>, StateError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StateError::new("write", &path, &error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => StateError::InUse(directory.to_owned()),
        errno => StateError::new("lock", &path, &errno.into()),
    })
}
