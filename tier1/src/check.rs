//! `sinfonia-tier1 check`: everything that is wrong with configuration, cloudlets and recipes, before it matters.

mod faults;

use crate::{Config, access, cloudlets, geoip::GeoIp, server};
use faults::Faults;
use serde_json::Value;
use sinfonia_recipes::{Expression, Repository};
use sinfonia_wire::{ApplicationId, Recipe};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// One thing that was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, or the option.
    pub place: String,
    /// What is wrong there.
    pub what: String,
    /// Whether it keeps tier1, or a deployment, from working.
    pub is_error: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, is_error } = self;
        write!(f, "{place}: {}{what}", if *is_error { "" } else { "warning: " })
    }
}

/// What was looked at, and what was found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many cloudlets.
    pub cloudlets: usize,
    /// How many recipes.
    pub recipes: usize,
    /// In the order in which it was found.
    pub findings: Vec<Finding>,
}

/// Looks at `files` (lists of cloudlets, recipes, directories of recipes, GeoIP databases) and at what the configuration
/// names.
pub async fn check(config: &Config, files: &[PathBuf]) -> Report {
    let mut report = Report::default();
    if let Some(path) = &config.cloudlets {
        report.cloudlets(path);
    }
    let recipes = Path::new(&config.recipes);
    // The default need not be there when files are named.
    if !config.recipes.contains("://") && (recipes.exists() || files.is_empty()) {
        report.directory(recipes).await;
    } else if let Err(error) = Repository::open(&config.recipes)
        && config.recipes.contains("://")
    {
        report.error("--recipes", error);
    }
    if let Some(path) = &config.geoip {
        report.geoip(path);
    }
    if let Some(path) = &config.tokens_file {
        report.failure("--tokens-file", access::read(path));
    }
    match config.database.addresses() {
        // Who names files asks for these, maybe with the image's defaults.
        Ok(addresses) if files.is_empty() => {
            report.failure("--host", server::check_access(config, addresses.is_some()));
        }
        Ok(_) => {}
        Err(error) => report.error("--database-url", error),
    }
    report.failure("token for cloudlets", server::cloudlet_token(config));
    report.failure("HTTPS", config.tls.open());
    report.failure("HTTPS", config.trust.client_config());
    for path in files {
        report.file(path).await;
    }
    report
}

impl Report {
    /// How many findings are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error).count()
    }

    fn error(&mut self, place: impl fmt::Display, what: impl fmt::Display) {
        self.findings.push(Finding { place: place.to_string(), what: what.to_string(), is_error: true });
    }

    fn failure<T>(&mut self, place: impl fmt::Display, result: Result<T, impl fmt::Display>) {
        if let Err(error) = result {
            self.error(place, error);
        }
    }

    fn faults(&mut self, place: &str, faults: Faults) {
        faults.errors.into_iter().for_each(|error| self.error(place, error));
        let unknown = faults.unknown.into_iter().map(|path| Finding {
            place: place.to_owned(),
            what: format!("{path} means nothing here and is ignored"),
            is_error: false,
        });
        self.findings.extend(unknown);
    }

    async fn file(&mut self, path: &Path) {
        if path.is_dir() {
            self.directory(path).await;
        } else if path.extension().is_some_and(|extension| extension == "mmdb") {
            self.geoip(path);
        } else if application(path).is_some() {
            self.recipe(path).await;
        } else {
            self.cloudlets(path);
        }
    }

    fn geoip(&mut self, path: &Path) {
        self.failure(path.display(), GeoIp::open(path));
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let text = fs::read_to_string(path);
        text.map_err(|error| self.error(path.display(), format!("cannot be read: {error}"))).ok()
    }

    fn cloudlets(&mut self, path: &Path) {
        let Some(text) = self.text(path) else { return };
        let before = self.errors();
        let mut bytes = text.as_bytes();
        for (index, document) in serde_saphyr::read::<_, Value>(&mut bytes).enumerate() {
            let place = format!("{}: document {}", path.display(), index + 1);
            match document {
                Ok(document) => {
                    self.cloudlets += 1;
                    self.faults(&place, Faults::of::<cloudlets::Fields>(document));
                }
                Err(error) => self.error(place, error.without_snippet()),
            }
        }
        // As tier1 reads it, which knows more of YAML than the documents' values do.
        if self.errors() == before
            && let Err((document, reason)) = cloudlets::parse(text.as_bytes())
        {
            self.error(format!("{}: document {document}", path.display()), reason);
        }
    }

    async fn directory(&mut self, path: &Path) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.error(path.display(), format!("cannot be read: {error}")),
        };
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            if application(file).is_some() {
                self.recipe(file).await;
            } else {
                let what = "is not found by any client: a recipe is called <uuid>.yaml".to_owned();
                self.findings.push(Finding { place: file.display().to_string(), what, is_error: false });
            }
        }
    }

    async fn recipe(&mut self, path: &Path) {
        self.recipes += 1;
        let place = path.display().to_string();
        let Some(text) = self.text(path) else { return };
        let before = self.errors();
        match serde_saphyr::from_str::<Value>(&text) {
            Ok(document) => {
                let expressions = ["requires", "prefer"].map(|name| {
                    let text = document.get(name).and_then(Value::as_str);
                    (name, text.and_then(|text| Expression::check(text).err()))
                });
                self.faults(&place, Faults::of::<Recipe>(document));
                for (name, error) in expressions {
                    if let Some(error) = error {
                        self.error(&place, format!("{name}: {error}"));
                    }
                }
            }
            Err(error) => self.error(&place, error.without_snippet()),
        }
        let (Some(directory), Some(application)) = (path.parent(), application(path)) else { return };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        // What one field by itself does not show, such as a chart that lies elsewhere.
        if self.errors() == before
            && let Err(error) = whole(directory, &application).await
        {
            self.error(&place, error);
        }
    }
}

/// The recipe as tier1 and tier2 read it.
async fn whole(directory: &Path, application: &ApplicationId) -> Result<(), String> {
    let repository = Repository::open(&directory.display().to_string()).map_err(|error| error.to_string())?;
    let recipe = repository.get(application).await.map_err(|error| error.to_string())?;
    repository.chart(&recipe).map(drop).map_err(|error| error.to_string())
}

/// The application whose recipe a file is, by its name.
fn application(path: &Path) -> Option<ApplicationId> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".yaml")?.parse().ok()
}
