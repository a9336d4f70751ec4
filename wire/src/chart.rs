//! Which Helm chart a recipe deploys.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::text::{quote, serde_as_text};

/// Where a chart is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChartReference {
    /// Beside the recipe, in the same repository.
    Relative(ChartName),
    /// `<url>-<version>.tgz` on a web server; http or https.
    Http(Url),
    /// In an OCI registry.
    Oci(Url),
}

/// Path of a chart inside the repository, without version and suffix. It never leads out of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChartName(String);

/// The exact version of a chart, safe as part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChartVersion(String);

/// Why a text refers to no chart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChartReferenceError {
    /// No text.
    #[error("the chart is empty; expected a name beside the recipe or an http, https or oci URL")]
    Empty,
    /// The path could lead out of the repository.
    #[error("chart {given} would leave the recipe repository; '..' and a leading '/' are not allowed")]
    Outside {
        /// The refused text, quoted.
        given: String,
    },
    /// A character that has no place in a chart's path.
    #[error("chart {given} contains {character:?}; only letters, digits and . _ - + / are allowed")]
    Character {
        /// The refused text, quoted.
        given: String,
        /// The first refused character.
        character: char,
    },
    /// A URL of another kind, such as `file:`.
    #[error("chart {given}: only http, https and oci URLs are allowed")]
    Scheme {
        /// The refused text, quoted.
        given: String,
    },
    /// A broken URL.
    #[error("chart {given} is not a URL ({source})")]
    NotUrl {
        /// The refused text, quoted.
        given: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// A URL with parts that a chart's has not. Not repeated: it may hold a password.
    #[error("the chart's URL must have a host and a path, and no user name, password, '?' or '#'")]
    UrlParts,
}

/// Why a text is no chart version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChartVersionError {
    /// No text.
    #[error("the chart version is empty; expected an exact version such as 0.1.0")]
    Empty,
    /// A range or something that is no version.
    #[error("chart version {given} is not an exact version such as 0.1.0")]
    NotExact {
        /// The refused text, quoted.
        given: String,
    },
}

impl ChartName {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ChartVersion {
    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChartReference {
    type Err = ChartReferenceError;

    fn from_str(text: &str) -> Result<Self, ChartReferenceError> {
        let Some((scheme, _)) = text.split_once(':') else {
            return text.parse().map(Self::Relative);
        };
        let variant = match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Self::Http,
            "oci" => Self::Oci,
            _ => return Err(ChartReferenceError::Scheme { given: quote(text) }),
        };
        Url::parse(text)
            .map_err(|source| ChartReferenceError::NotUrl { given: quote(text), source })
            .and_then(check_url)
            .map(variant)
    }
}

impl FromStr for ChartName {
    type Err = ChartReferenceError;

    fn from_str(text: &str) -> Result<Self, ChartReferenceError> {
        if text.is_empty() {
            return Err(ChartReferenceError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+/".contains(c);
        if let Some(character) = text.chars().find(|&c| !allowed(c)) {
            let given = quote(text);
            return Err(ChartReferenceError::Character { given, character });
        }
        if text.contains("..") || text.starts_with('/') {
            return Err(ChartReferenceError::Outside { given: quote(text) });
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for ChartVersion {
    type Err = ChartVersionError;

    fn from_str(text: &str) -> Result<Self, ChartVersionError> {
        if text.is_empty() {
            return Err(ChartVersionError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || text.contains("..") || !text.chars().all(allowed) {
            return Err(ChartVersionError::NotExact { given: quote(text) });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ChartReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative(name) => name.fmt(f),
            Self::Http(url) | Self::Oci(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for ChartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(ChartReference, ChartName, ChartVersion);

fn check_url(url: Url) -> Result<Url, ChartReferenceError> {
    let credentials = !url.username().is_empty() || url.password().is_some();
    let bare = url.path().trim_matches('/').is_empty();
    let extra = url.query().is_some() || url.fragment().is_some();
    let hostless = url.host_str().is_none_or(str::is_empty);
    if credentials || bare || extra || hostless {
        return Err(ChartReferenceError::UrlParts);
    }
    Ok(url)
}
