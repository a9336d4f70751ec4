//! Fetches a packaged chart from a web server.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sinfonia_recipes::shown;
use tempfile::NamedTempFile;
use tracing::{Instrument as _, info_span};
use ureq::{
    Agent,
    http::{HeaderMap, StatusCode, header},
};
use url::Url;

use super::{HelmError, SIZE_LIMIT, too_large};

/// Limits of one request.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(60);

/// How a gzip file begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// By which a server recognises what we have.
#[derive(Clone, Default)]
pub(super) struct Validators {
    etag: Option<String>,
    modified: Option<String>,
}

pub(super) struct Downloader(Agent);

impl Downloader {
    pub(super) fn new() -> Self {
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(TOTAL))
            .max_redirects(3)
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self(agent)
    }

    /// Replaces the file, unless the server says that what we have is still right.
    pub(super) async fn fetch(&self, url: &Url, known: Validators, file: &Path) -> Result<Validators, HelmError> {
        let span = info_span!("fetch chart", url.full = shown(url), otel.kind = "client");
        let (agent, address, file): (_, _, PathBuf) = (self.0.clone(), url.clone(), file.to_owned());
        tokio::task::spawn_blocking(move || request(&agent, &address, known, &file))
            .instrument(span)
            .await
            .unwrap_or_else(|error| Err(unavailable(url, error.to_string())))
    }
}

fn request(agent: &Agent, url: &Url, known: Validators, file: &Path) -> Result<Validators, HelmError> {
    let mut request = agent.get(url.as_str());
    for (name, value) in [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.modified)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let response = request.call().map_err(|error| unavailable(url, error.to_string()))?;
    match response.status() {
        StatusCode::NOT_MODIFIED => {
            // Its age tells how long it has not been used.
            let touched = File::options().append(true).open(file).and_then(|file| file.set_modified(SystemTime::now()));
            touched.map_err(|error| unavailable(url, error.to_string()))?;
            Ok(known)
        }
        StatusCode::OK => {
            let validators = Validators {
                etag: text(response.headers(), header::ETAG),
                modified: text(response.headers(), header::LAST_MODIFIED),
            };
            save(response.into_body().into_reader(), url, file)?;
            Ok(validators)
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(HelmError::ChartNotFound { chart: shown(url) }),
        status => Err(unavailable(url, format!("the server answers {status}"))),
    }
}

/// Nobody sees the file before it is whole.
fn save(body: impl io::Read, url: &Url, file: &Path) -> Result<(), HelmError> {
    let failed = |error: io::Error| unavailable(url, error.to_string());
    let directory = file.parent().unwrap_or(Path::new("."));
    let mut temporary = NamedTempFile::new_in(directory).map_err(failed)?;
    let mut body = body.take(SIZE_LIMIT + 1);
    let mut start = Vec::new();
    body.by_ref().take(GZIP.len() as u64).read_to_end(&mut start).map_err(failed)?;
    if start != GZIP {
        return Err(HelmError::ChartInvalid(format!("{} is not a packaged chart (.tgz)", shown(url))));
    }
    temporary.write_all(&start).map_err(failed)?;
    let length = io::copy(&mut body, &mut temporary).map_err(failed)?;
    if length + start.len() as u64 > SIZE_LIMIT {
        return Err(too_large(&shown(url)));
    }
    temporary.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

fn unavailable(url: &Url, reason: String) -> HelmError {
    HelmError::ChartUnavailable { chart: shown(url), reason }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
