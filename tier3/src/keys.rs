//! The key pair of each application, kept between runs so that a client that comes back finds its deployment.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Uid;
use serde::Deserialize;
use sinfonia_tunnel::PrivateKey;
use sinfonia_wire::{ApplicationId, PublicKey};
use zeroize::Zeroizing;

/// No key file is longer, bytes.
const FILE_LIMIT: u64 = 4096;

/// A folder with one file per application, which only its owner can read. The reference client uses the same.
#[derive(Debug, Clone)]
pub struct KeyCache {
    directory: Option<PathBuf>,
}

impl KeyCache {
    /// `$XDG_CACHE_HOME/sinfonia`, or `~/.cache/sinfonia`.
    #[must_use]
    pub fn of_user() -> Self {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Self { directory: cache.map(|cache| cache.join("sinfonia")) }
    }

    /// A folder of the caller's choice.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()) }
    }

    /// The application's key, for this run alone until the result is dropped.
    ///
    /// Never fails: when the kept key serves another run, or cannot be read or kept, it is a fresh one for this run
    /// only; a warning says why.
    #[must_use]
    pub fn claim(&self, application: ApplicationId) -> ClaimedKey {
        match self.try_claim(application) {
            Ok(claimed) => claimed,
            Err(error @ KeyCacheError::InUse(_)) => {
                tracing::info!("{error}; this run uses a key of its own");
                ClaimedKey::for_one_run()
            }
            Err(error) => {
                tracing::warn!("{error}; this run uses a key that is not kept");
                ClaimedKey::for_one_run()
            }
        }
    }

    fn try_claim(&self, application: ApplicationId) -> Result<ClaimedKey, KeyCacheError> {
        let directory = self.directory.as_deref().ok_or(KeyCacheError::NoDirectory)?;
        make_directory(directory).map_err(|source| KeyCacheError::Directory { path: directory.into(), source })?;
        let path = directory.join(application.to_string());
        let failed = |source| KeyCacheError::File { path: path.clone(), source };
        loop {
            // The lock on an unusable file is held until it is replaced.
            let broken = match open(&path) {
                Ok(file) => {
                    lock(&file, &path)?;
                    if !is_at(&file, &path).map_err(failed)? {
                        continue; // another run replaced it just now
                    }
                    match read(&file) {
                        Ok(private_key) => return Ok(ClaimedKey { private_key, held: Some(file) }),
                        Err(unusable) => Some((unusable, Some(file))),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some((unopened(&error).ok_or_else(|| failed(error))?, None)),
            };
            if let Some((unusable, _)) = &broken {
                tracing::warn!("key file {} is replaced: {unusable}", path.display());
            }
            if let Some(claimed) = create(directory, &path, broken.is_some()).map_err(failed)? {
                return Ok(claimed);
            }
        }
    }
}

/// A private key and, while this exists, the sole use of it among this user's runs.
pub struct ClaimedKey {
    private_key: PrivateKey,
    /// Holds the lock; the system lets go of it however the process ends.
    held: Option<File>,
}

impl ClaimedKey {
    /// The private key.
    #[must_use]
    pub fn private_key(&self) -> &PrivateKey {
        &self.private_key
    }

    /// The public key, by which tiers know this client.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.private_key.public_key()
    }

    /// Whether a later run can use the key again. If not, nobody can come back to what was deployed with it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.held.is_some()
    }

    fn for_one_run() -> Self {
        Self { private_key: PrivateKey::generate(), held: None }
    }
}

impl std::fmt::Debug for ClaimedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let public_key = self.public_key().to_string();
        formatter.debug_struct("ClaimedKey").field("public_key", &public_key).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
enum KeyCacheError {
    #[error("neither XDG_CACHE_HOME nor HOME names an absolute folder to keep keys in")]
    NoDirectory,
    #[error("key folder {} cannot be used: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("key file {} cannot be used: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("key file {} serves another run", .0.display())]
    InUse(PathBuf),
}

/// Why a key file is not used. Never repeats its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Unusable {
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it belongs to user {0}")]
    Owner(u32),
    #[error("others may access it (mode {0:04o} instead of 0600)")]
    Mode(u32),
    #[error("it cannot be read ({0})")]
    Unreadable(io::ErrorKind),
    #[error("it is not YAML with `public_key` and `private_key` in base64")]
    Format,
    #[error("its public key does not belong to its private key")]
    Mismatch,
}

fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = directory.metadata()?;
    let me = Uid::effective().as_raw();
    if found.uid() != me {
        return Err(io::Error::other(format!("it belongs to user {}, not {me}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    // Writable because NFS locks only such; a FIFO must not block.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// What is wrong with a file that cannot be opened, if replacing it helps.
fn unopened(error: &io::Error) -> Option<Unusable> {
    match error.raw_os_error() {
        Some(libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::ENODEV) => Some(Unusable::NotAFile),
        Some(libc::EACCES | libc::EPERM) => Some(Unusable::Unreadable(error.kind())),
        _ => None,
    }
}

fn lock(file: &File, path: &Path) -> Result<(), KeyCacheError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => KeyCacheError::InUse(path.into()),
        TryLockError::Error(source) => KeyCacheError::File { path: path.into(), source },
    })
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, std::fs::symlink_metadata(path));
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

fn read(file: &File) -> Result<PrivateKey, Unusable> {
    #[derive(Deserialize)]
    struct KeyFile {
        public_key: PublicKey,
        private_key: String,
    }
    let found = file.metadata().map_err(|error| Unusable::Unreadable(error.kind()))?;
    if !found.is_file() {
        return Err(Unusable::NotAFile);
    }
    if found.uid() != Uid::effective().as_raw() {
        return Err(Unusable::Owner(found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(Unusable::Mode(found.mode() & 0o7777));
    }
    let mut text = Zeroizing::new(String::with_capacity(FILE_LIMIT as usize));
    file.take(FILE_LIMIT).read_to_string(&mut text).map_err(|_| Unusable::Format)?;
    let keys: KeyFile = serde_saphyr::from_str(&text).map_err(|_| Unusable::Format)?;
    let private_key: PrivateKey = Zeroizing::new(keys.private_key).parse().map_err(|_| Unusable::Format)?;
    if private_key.public_key() != keys.public_key {
        return Err(Unusable::Mismatch);
    }
    Ok(private_key)
}

/// Writes a new key beside its place and moves it there, locked. None when another run was first.
fn create(directory: &Path, path: &Path, replace: bool) -> io::Result<Option<ClaimedKey>> {
    let private_key = PrivateKey::generate();
    let mut file =
        tempfile::Builder::new().prefix(".key-").permissions(Permissions::from_mode(0o600)).tempfile_in(directory)?;
    let text = Zeroizing::new(format!(
        "private_key: {}\npublic_key: {}\n",
        *private_key.to_base64(),
        private_key.public_key()
    ));
    file.write_all(text.as_bytes())?;
    file.as_file().try_lock().map_err(io::Error::from)?;
    let placed = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    match placed {
        Ok(file) => Ok(Some(ClaimedKey { private_key, held: Some(file) })),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests;
