//! Where deployment recipes come from: a directory or an HTTP(S) URL.
//!
//! A repository holds `<uuid>.yaml` files. A directory is read again when a file changes; answers of a
//! URL are kept and revalidated. Nothing a recipe says can point outside its repository.

mod chart;
mod directory;
mod error;
mod parse;
mod placement;
mod remote;

pub use chart::ChartSource;
pub use error::{OpenError, RecipeError};
pub use placement::{EvaluationError, Expression, Facts, Placement};
pub use remote::shown;

use directory::Directory;
use remote::Remote;
use sinfonia_wire::{ApplicationId, Recipe};
use std::{path::Path, sync::Arc};
use url::Url;

/// A collection of recipes, found by application id.
#[derive(Debug)]
pub struct Repository(Source);

#[derive(Debug)]
enum Source {
    Directory(Directory),
    Remote(Remote),
}

/// Reads the text of a recipe's file and checks its expressions; `file` is what errors call it.
///
/// # Errors
/// [`RecipeError::Invalid`].
pub fn parse(text: &str, file: &str) -> Result<(Arc<Recipe>, Arc<Placement>), RecipeError> {
    let Loaded { recipe, placement } = parse::recipe(text, file)?;
    Ok((recipe, placement))
}

/// A recipe that was checked.
#[derive(Clone, Debug)]
struct Loaded {
    recipe: Arc<Recipe>,
    placement: Arc<Placement>,
}

impl Repository {
    /// Opens a directory (which has to exist) or names a URL (which is asked only when a recipe is wanted).
    ///
    /// # Errors
    /// When the directory cannot be read or the URL is neither `http` nor `https`.
    pub fn open(place: &str) -> Result<Self, OpenError> {
        let source = match Url::parse(place) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Source::Remote(Remote::new(url)?),
            Ok(url) if place.contains("://") => {
                return Err(OpenError::Scheme { scheme: url.scheme().to_owned() });
            }
            _ => Source::Directory(Directory::open(Path::new(place))?),
        };
        Ok(Self(source))
    }

    /// The recipe of an application.
    ///
    /// # Errors
    /// When there is none, it is not valid, or the repository cannot be reached.
    pub async fn get(&self, application: &ApplicationId) -> Result<Arc<Recipe>, RecipeError> {
        Ok(self.load(application).await?.recipe)
    }

    /// Where the recipe of an application may and should run.
    ///
    /// # Errors
    /// As [`Repository::get`].
    pub async fn placement(&self, application: &ApplicationId) -> Result<Arc<Placement>, RecipeError> {
        Ok(self.load(application).await?.placement)
    }

    async fn load(&self, application: &ApplicationId) -> Result<Loaded, RecipeError> {
        match &self.0 {
            Source::Directory(directory) => directory.get(application),
            Source::Remote(remote) => remote.get(application).await,
        }
    }

    /// Refuses a recipe whose `local:` command comes from elsewhere: whoever runs commands asks first.
    ///
    /// # Errors
    /// [`RecipeError::LocalFromRemote`].
    pub fn check_commands(&self, application: &ApplicationId, recipe: &Recipe) -> Result<(), RecipeError> {
        match &self.0 {
            Source::Remote(remote) if recipe.local.is_some() => {
                Err(RecipeError::LocalFromRemote { file: remote.file(application) })
            }
            _ => Ok(()),
        }
    }

    /// Whether recipes come from a local directory; only those may name local commands.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.directory().is_some()
    }

    /// The directory, if it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.0 {
            Source::Directory(directory) => Some(directory.path()),
            Source::Remote(_) => None,
        }
    }

    /// Where the chart of a recipe is to be fetched from.
    ///
    /// # Errors
    /// When a relative reference would leave the repository.
    pub fn chart(&self, recipe: &Recipe) -> Result<ChartSource, RecipeError> {
        match &self.0 {
            Source::Directory(directory) => chart::beside_file(directory.path(), recipe),
            Source::Remote(remote) => chart::beside_url(remote.base(), recipe),
        }
    }
}
