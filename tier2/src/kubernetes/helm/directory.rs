//! Where charts are kept, and files for Helm that nobody else may read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};
use serde_json::Value;
use tempfile::TempDir;

use super::HelmError;

const CHARTS: &str = "charts";
const HOME: &str = "home";
const RUNS: &str = "runs";
const LOCK: &str = "lock";

/// The cache directory. Several processes may use it at once.
pub(super) struct Directory {
    root: PathBuf,
    /// Locked as long as this process lives, so that others know its files from those of the dead.
    runs: TempDir,
    _lock: Flock<File>,
}

/// Files for one run of Helm, removed with this value.
pub(super) struct Private(TempDir);

impl Directory {
    /// Makes it if need be, and removes what dead processes left.
    pub(super) fn open(root: &Path) -> Result<Self, HelmError> {
        let failed = |error: io::Error| HelmError::Directory { path: root.to_owned(), reason: error.to_string() };
        let root = std::path::absolute(root).map_err(failed)?;
        make_private(&root).map_err(failed)?;
        for part in [CHARTS, HOME, RUNS] {
            make_private(&root.join(part)).map_err(failed)?;
        }
        remove_dead(&root.join(RUNS));
        let (runs, lock) = new_run(&root.join(RUNS)).map_err(failed)?;
        Ok(Self { root, runs, _lock: lock })
    }

    /// Where charts are kept.
    pub(super) fn charts(&self) -> PathBuf {
        self.root.join(CHARTS)
    }

    /// What Helm takes for its user's home.
    pub(super) fn home(&self) -> PathBuf {
        self.root.join(HOME)
    }

    /// A place for files of one run, which only this user can enter.
    pub(super) fn private(&self) -> Result<Private, HelmError> {
        let private = private_in(self.runs.path());
        private.map(Private).map_err(|error| failed(self.runs.path(), &error))
    }
}

impl Private {
    /// Writes a file of mode 0600; JSON is YAML too.
    pub(super) fn write(&self, name: &str, content: &Value) -> Result<PathBuf, HelmError> {
        let path = self.0.path().join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.to_string().as_bytes()))
            .map_err(|error| failed(&path, &error))?;
        Ok(path)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

fn failed(path: &Path, error: &io::Error) -> HelmError {
    HelmError::Directory { path: path.to_owned(), reason: error.to_string() }
}

fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = path.metadata()?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("other users can write in it"));
    }
    Ok(())
}

fn private_in(parent: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir_in(parent)
}

/// A directory whose lock is taken before anybody else can see that it has one.
fn new_run(parent: &Path) -> io::Result<(TempDir, Flock<File>)> {
    let runs = private_in(parent)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(runs.path().join("new"))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    fs::rename(runs.path().join("new"), runs.path().join(LOCK))?;
    Ok((runs, lock))
}

/// Without a lock file a directory may be one that is just being made, or one that is just being removed.
fn remove_dead(parent: &Path) {
    let directories = parent.read_dir().into_iter().flatten().flatten();
    for directory in directories.map(|entry| entry.path()) {
        let Ok(file) = File::open(directory.join(LOCK)) else { continue };
        if let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            && let Err(error) = fs::remove_dir_all(&directory)
        {
            tracing::warn!(path = %directory.display(), %error, "files of a dead process cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_dead_go_and_those_of_the_living_stay() {
        let root = tempfile::tempdir().unwrap();
        let living = Directory::open(root.path()).unwrap();
        let file = living.private().unwrap();
        let path = file.write("kubeconfig", &Value::from("secret")).unwrap();
        let dead = root.path().join(RUNS).join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("kubeconfig"), "secret").unwrap();

        let other = Directory::open(root.path()).unwrap();
        assert!(!dead.exists());
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"secret\"");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
        drop((file, other));
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Directory::open(root.path()).err().unwrap();
        assert!(error.to_string().contains("other users can write in it"), "{error}");
    }
}
