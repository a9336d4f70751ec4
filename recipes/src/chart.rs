use crate::{RecipeError, parse, remote};
use sinfonia_wire::{ChartReference, ChartVersion, Recipe};
use std::path::{Component, Path, PathBuf};
use url::Url;

/// Where a chart is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChartSource {
    /// A packaged chart beside the recipe.
    File(PathBuf),
    /// A packaged chart to download.
    Url(Url),
    /// A chart in an OCI registry.
    Oci {
        /// Without the version.
        reference: Url,
        /// Which version.
        version: ChartVersion,
    },
}

pub(crate) fn beside_file(directory: &Path, recipe: &Recipe) -> Result<ChartSource, RecipeError> {
    let place = |package: &str| {
        let inside = Path::new(package).components().all(|part| matches!(part, Component::Normal(_)));
        let file = inside.then(|| directory.join(package))?;
        // A symbolic link must not lead out either; a chart that is not there yet cannot be one.
        match (file.canonicalize(), directory.canonicalize()) {
            (Ok(real), Ok(root)) if !real.starts_with(&root) => None,
            _ => Some(ChartSource::File(file)),
        }
    };
    find(recipe, &directory.display().to_string(), place)
}

pub(crate) fn beside_url(base: &Url, recipe: &Recipe) -> Result<ChartSource, RecipeError> {
    let place = |package: &str| remote::relative(base, package).map(ChartSource::Url);
    find(recipe, &remote::shown(base), place)
}

fn find(
    recipe: &Recipe,
    repository: &str,
    relative: impl FnOnce(&str) -> Option<ChartSource>,
) -> Result<ChartSource, RecipeError> {
    let version = &recipe.version;
    let outside = |package: &str| {
        parse::invalid(repository, "chart", format!("{package} leads out of the repository; name a chart inside it"))
    };
    match &recipe.chart {
        ChartReference::Oci(reference) => {
            Ok(ChartSource::Oci { reference: reference.clone(), version: version.clone() })
        }
        ChartReference::Http(url) => {
            let mut url = url.clone();
            let package = format!("{}-{version}.tgz", url.path());
            url.set_path(&package);
            Ok(ChartSource::Url(url))
        }
        ChartReference::Relative(name) => {
            let package = format!("{name}-{version}.tgz");
            relative(&package).ok_or_else(|| outside(&package))
        }
    }
}
