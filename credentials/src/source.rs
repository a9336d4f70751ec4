use crate::{
    hash::TokenHash,
    token::{BearerToken, TokenError},
};
use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use thiserror::Error;
use tracing::{info, warn};
use zeroize::Zeroizing;

/// How long it may take until a changed file counts.
const STALE: Duration = Duration::from_secs(1);
/// The largest file of tokens, bytes.
const LARGEST: u64 = 1 << 20;

/// Where a program finds tokens: the environment, or a file with one a line. A file counts as it is now, so that a
/// token can be replaced without a restart: where tokens are accepted by an old and a new one in it, where they are
/// sent by the first.
#[derive(Clone)]
pub struct TokenSource(Arc<Source>);

enum Source {
    Fixed(Arc<[BearerToken]>),
    File { path: PathBuf, state: Mutex<State> },
}

struct State {
    tokens: Arc<[BearerToken]>,
    checked: Instant,
    stamp: Option<FileStamp>,
}

/// What changes with a file's content.
pub type FileStamp = (SystemTime, i64, u64, u64);

/// There are no tokens where they should be. They are not repeated.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{option} {}: {source}", path.display())]
    Unreadable {
        /// Whose value it is.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it holds is no token.
    #[error("{place}: {reason}")]
    Invalid {
        /// The option with the file, or the variable.
        place: String,
        /// What is wrong.
        reason: TokenError,
    },
    /// Two places.
    #[error("{option} and {variable} are both given: leave one away")]
    Twice {
        /// The option.
        option: &'static str,
        /// The environment variable.
        variable: &'static str,
    },
}

impl TokenSource {
    /// Tokens in `file`, which `option` named, or one in the environment's `variable`; none if neither is there.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn find(
        option: &'static str,
        file: Option<&Path>,
        variable: &'static str,
    ) -> Result<Option<Self>, SourceError> {
        match (file, std::env::var_os(variable).filter(|value| !value.is_empty())) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(SourceError::Twice { option, variable }),
            (Some(path), None) => Self::file(option, path).map(Some),
            (None, Some(value)) => {
                let value = Zeroizing::new(value.to_string_lossy().into_owned());
                let token = value.parse::<BearerToken>();
                let invalid = |reason| SourceError::Invalid { place: variable.to_owned(), reason };
                Ok(Some(Self::from(token.map_err(invalid)?)))
            }
        }
    }

    /// Tokens in a file, which `option` named.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn file(option: &'static str, path: &Path) -> Result<Self, SourceError> {
        let checked = Instant::now();
        let stamp = stamp(path);
        let unreadable = |source| SourceError::Unreadable { option, path: path.to_owned(), source };
        let invalid = |reason| SourceError::Invalid { place: format!("{option} {}", path.display()), reason };
        let tokens = read(path).map_err(unreadable)?.map_err(invalid)?;
        warn_if_exposed(path);
        let state = Mutex::new(State { tokens, checked, stamp });
        Ok(Self(Arc::new(Source::File { path: path.to_owned(), state })))
    }

    /// The token to send; there always is one.
    #[must_use]
    pub fn token(&self) -> Option<BearerToken> {
        self.tokens().first().cloned()
    }

    /// Whether a token is among these.
    #[must_use]
    pub fn accepts(&self, token: &str) -> bool {
        let hash = TokenHash::of(token);
        // Each is compared, so that the time does not tell which it was.
        self.tokens().iter().fold(false, |found, known| (TokenHash::of(known.expose()) == hash) | found)
    }

    fn tokens(&self) -> Arc<[BearerToken]> {
        match &*self.0 {
            Source::Fixed(tokens) => Arc::clone(tokens),
            Source::File { path, state } => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.checked.elapsed() >= STALE {
                    state.refresh(path);
                }
                Arc::clone(&state.tokens)
            }
        }
    }
}

impl State {
    fn refresh(&mut self, path: &Path) {
        self.checked = Instant::now();
        let stamp = stamp(path);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match read(path) {
            Ok(Ok(tokens)) => {
                info!(file = %path.display(), "tokens read again");
                warn_if_exposed(path);
                self.tokens = tokens;
            }
            Ok(Err(reason)) => warn!(file = %path.display(), %reason, "changed tokens are of no use: the former stay"),
            Err(error) => warn!(file = %path.display(), %error, "changed tokens cannot be read: the former stay"),
        }
    }
}

impl From<BearerToken> for TokenSource {
    fn from(token: BearerToken) -> Self {
        Self(Arc::new(Source::Fixed([token].into())))
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// Warns if every user of this machine may read a file that is secret.
pub fn warn_if_exposed(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0) {
        warn!(file = %path.display(), "every user of this machine may read these tokens: chmod 600 the file");
    }
}

/// What tells one state of a file from another; none if it is not there.
#[must_use]
pub fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ctime_nsec(), metadata.len(), metadata.ino()))
}

/// The tokens in a file, at least one.
fn read(path: &Path) -> io::Result<Result<Arc<[BearerToken]>, TokenError>> {
    if fs::metadata(path)?.len() > LARGEST {
        return Ok(Err(TokenError::TooLong));
    }
    let text = Zeroizing::new(fs::read_to_string(path)?);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let tokens: Result<Vec<BearerToken>, _> = lines.map(str::parse).collect();
    Ok(tokens.and_then(|tokens| if tokens.is_empty() { Err(TokenError::Empty) } else { Ok(tokens.into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_tokens_and_may_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let open = || TokenSource::file("--token-file", &path);
        let missing = open().unwrap_err().to_string();
        assert!(missing.contains("--token-file") && missing.contains(path.to_str().unwrap()), "{missing}");
        fs::write(&path, "\n").unwrap();
        assert!(open().unwrap_err().to_string().contains("empty"));
        fs::write(&path, "hush hush").unwrap();
        let error = open().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");

        fs::write(&path, "one\n\ntwo\n").unwrap();
        let source = open().unwrap();
        assert_eq!(source.token().unwrap().expose(), "one");
        assert!(source.accepts("one") && source.accepts("two") && !source.accepts("three") && !source.accepts(""));
        assert_eq!(format!("{source:?}"), "TokenSource");

        let Source::File { state, .. } = &*source.0 else { panic!("not a file") };
        let age = || state.lock().unwrap().checked -= STALE;
        fs::write(&path, "three").unwrap();
        age();
        assert!(source.accepts("three") && !source.accepts("one"));
        fs::remove_file(&path).unwrap();
        age();
        assert!(source.accepts("three"), "what was known stays");
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert!(TokenSource::find("--token-file", None, "SINFONIA_TEST_NO_SUCH_VARIABLE").unwrap().is_none());
    }
}
