use crate::{Loaded, OpenError, RecipeError, parse};
use sinfonia_wire::ApplicationId;
use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// How long a file is taken not to have changed.
const FRESH: Duration = Duration::from_millis(100);

/// Recipes as files, read again when they change, soon after.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    read: Mutex<HashMap<ApplicationId, Known>>,
}

/// What was read.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// When the file was last seen to be so.
    seen: Instant,
    loaded: Loaded,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        fs::read_dir(path).map_err(|source| OpenError::Directory { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), read: Mutex::default() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file's metadata now and then, which costs less than handing it to another thread.
    pub(crate) fn get(&self, application: &ApplicationId) -> Result<Loaded, RecipeError> {
        let now = Instant::now();
        if let Some(known) = self.read().get(application)
            && now < known.seen + FRESH
        {
            return Ok(known.loaded.clone());
        }
        let path = self.path.join(format!("{application}.yaml"));
        let file = path.display().to_string();
        let failed = |error: io::Error| self.failed(application, &file, error);
        let metadata = fs::metadata(&path).map_err(failed)?;
        // A pipe would hold up the thread, and with it everybody's requests, until somebody writes.
        if !metadata.is_file() {
            return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let stamp = Stamp::of(&metadata);
        let mut read = self.read();
        if let Some(known) = read.get_mut(application)
            && known.stamp == stamp
        {
            known.seen = now;
            return Ok(known.loaded.clone());
        }
        if metadata.len() > parse::MAX_BYTES {
            return Err(parse::too_large(&file));
        }
        // Not every file has the length that it says.
        let mut text = String::new();
        let opened = File::open(&path).map_err(failed)?;
        opened.take(parse::MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > parse::MAX_BYTES {
            return Err(parse::too_large(&file));
        }
        let loaded = parse::recipe(&text, &file)?;
        read.insert(*application, Known { stamp, seen: now, loaded: loaded.clone() });
        Ok(loaded)
    }

    fn read(&self) -> MutexGuard<'_, HashMap<ApplicationId, Known>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, application: &ApplicationId, file: &str, error: io::Error) -> RecipeError {
        match error.kind() {
            ErrorKind::NotFound => {
                RecipeError::NotFound { application: *application, repository: self.path.display().to_string() }
            }
            ErrorKind::InvalidData => parse::invalid(file, "document", "it is not UTF-8 text"),
            _ => RecipeError::Unreadable { file: file.to_owned(), source: Arc::new(error) },
        }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), length: metadata.len() }
    }
}
