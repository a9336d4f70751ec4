use sinfonia_wire::ApplicationId;
use std::{io, path::PathBuf, sync::Arc};
use thiserror::Error;

/// Why a repository cannot be used at all.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory is missing, is none, or may not be read.
    #[error("recipes directory {} cannot be read; name an existing directory or an http(s) URL", path.display())]
    Directory {
        /// What was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A URL of another kind.
    #[error("recipes cannot be read by {scheme}://; name a directory or an http(s) URL")]
    Scheme {
        /// The scheme that was given.
        scheme: String,
    },
    /// A URL that no file can be relative to.
    #[error("recipes URL {url} has no host or path; expected http(s)://host/path")]
    Base {
        /// What was given.
        url: String,
    },
}

/// Why there is no recipe to be had. Cloned to everyone who waits for the same answer.
#[derive(Clone, Debug, Error)]
pub enum RecipeError {
    /// The repository does not hold it.
    #[error("there is no recipe {application} in {repository}")]
    NotFound {
        /// What was asked for.
        application: ApplicationId,
        /// Where.
        repository: String,
    },
    /// The file is not a recipe.
    #[error("recipe {file} is not valid: {field}: {reason}")]
    Invalid {
        /// Path or URL.
        file: String,
        /// The field at fault, as a path from the document's root (`local.port`); `document` for the whole.
        field: String,
        /// What was wrong and what is expected.
        reason: String,
    },
    /// A recipe from elsewhere asks to run a command here.
    #[error("recipe {file} has a `local:` section, which only a recipe from a local directory may have")]
    LocalFromRemote {
        /// The recipe's URL.
        file: String,
    },
    /// The file cannot be read.
    #[error("recipe {file} cannot be read: {source}")]
    Unreadable {
        /// Its path.
        file: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The server does not answer, or not with a recipe.
    #[error("recipe {file} cannot be fetched: {reason}")]
    Unreachable {
        /// Its URL.
        file: String,
        /// What happened.
        reason: String,
    },
}
