//! Where a tier takes deploy requests.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::API_BASE;
use crate::id::ApplicationId;
use crate::key::PublicKey;
use crate::text::{quote, serde_as_text};

/// The deploy URL of a tier, `<base>/api/v1/deploy`. A final slash is dropped; a later API version becomes `v1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeployEndpoint(Url);

/// Why something is no deploy URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeployEndpointError {
    /// Not a URL.
    #[error("endpoint {given} is not a URL ({source}); expected http(s)://host[:port]/api/v1/deploy")]
    NotUrl {
        /// The refused text, quoted.
        given: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// Neither http nor https.
    #[error("endpoint {given} must begin with http:// or https://")]
    Scheme {
        /// The refused URL, quoted.
        given: String,
    },
    /// Port 0.
    #[error("endpoint {given}: the port must be 1..65535")]
    Port {
        /// The refused URL, quoted.
        given: String,
    },
    /// User or password in the URL; not repeated.
    #[error("the endpoint on host {host} must not contain a user name or password")]
    Credentials {
        /// Host of the refused URL.
        host: String,
    },
    /// Query or fragment in the URL.
    #[error("endpoint {given} must not contain '?' or '#'")]
    Query {
        /// The refused URL, quoted.
        given: String,
    },
    /// The path is not that of the deploy API.
    #[error("endpoint {given} must end in /api/v1/deploy")]
    Path {
        /// The refused URL, quoted.
        given: String,
    },
}

impl DeployEndpoint {
    /// The endpoint of the tier that is reached at `base`, such as `http://127.0.0.1:5000`.
    ///
    /// # Errors
    /// If `base` is no plain http(s) URL.
    pub fn of_tier(base: &Url) -> Result<Self, DeployEndpointError> {
        let mut url = check(base.clone())?;
        let path = format!("{}{API_BASE}/deploy", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The URL, without a final slash.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Name or address of the host; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
    }

    /// The TCP port, also if it is the scheme's default.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// Where this client's deployment of the application is made, asked for and released.
    #[must_use]
    pub fn deployment_url(&self, application: &ApplicationId, key: &PublicKey) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{application}/{}", self.0.path(), key.url_safe()));
        url
    }
}

impl TryFrom<Url> for DeployEndpoint {
    type Error = DeployEndpointError;

    fn try_from(url: Url) -> Result<Self, DeployEndpointError> {
        let mut url = check(url)?;
        let path = first_version(url.path()).ok_or_else(|| DeployEndpointError::Path { given: quote(url.as_str()) })?;
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl FromStr for DeployEndpoint {
    type Err = DeployEndpointError;

    fn from_str(text: &str) -> Result<Self, DeployEndpointError> {
        Url::parse(text).map_err(|source| DeployEndpointError::NotUrl { given: quote(text), source })?.try_into()
    }
}

impl fmt::Display for DeployEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(DeployEndpoint);

fn check(url: Url) -> Result<Url, DeployEndpointError> {
    let given = || quote(url.as_str());
    if !url.username().is_empty() || url.password().is_some() {
        let host = quote(url.host_str().unwrap_or_default());
        return Err(DeployEndpointError::Credentials { host });
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(DeployEndpointError::Scheme { given: given() });
    }
    if url.port() == Some(0) {
        return Err(DeployEndpointError::Port { given: given() });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(DeployEndpointError::Query { given: given() });
    }
    Ok(url)
}

/// `.../api/v<N>/deploy` for N from 1, with `v1` instead.
fn first_version(path: &str) -> Option<String> {
    let rest = path.trim_end_matches('/').strip_suffix("/deploy")?;
    let (base, version) = rest.rsplit_once("/api/v")?;
    let digits = version.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = digits && !version.trim_start_matches('0').is_empty();
    numbered.then(|| format!("{base}{API_BASE}/deploy"))
}
