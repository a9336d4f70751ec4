use crate::{Loaded, OpenError, RecipeError, parse};
use moka::sync::Cache;
use sinfonia_wire::ApplicationId;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use tracing::{Instrument, info_span, warn};
use ureq::{
    Agent,
    http::{HeaderMap, StatusCode, header},
};
use url::Url;

/// How long an answer is used without asking whether it changed.
const FRESH: Duration = Duration::from_secs(10);
/// How long a server that fails is left alone, so that those who wait do not wait one after another.
const REST: Duration = Duration::from_secs(2);
/// Limits of one request.
const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(10);
/// Answers kept, found or not; unknown ids cost a request, so they are remembered as well.
const KEPT: u64 = 4096;

/// Recipes under a URL.
pub(crate) struct Remote {
    base: Url,
    agent: Agent,
    /// The lock of an entry lets one request fetch what many wait for.
    known: Cache<ApplicationId, Arc<Mutex<Entry>>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Remote").field(&shown(&self.base)).finish()
    }
}

#[derive(Clone, Default)]
struct Entry {
    fresh_until: Option<Instant>,
    etag: Option<String>,
    modified: Option<String>,
    answer: Option<Result<Loaded, RecipeError>>,
}

impl Remote {
    pub(crate) fn new(mut base: Url) -> Result<Self, OpenError> {
        base.set_query(None);
        base.set_fragment(None);
        let shown = shown(&base);
        base.path_segments_mut().map_err(|()| OpenError::Base { url: shown })?.pop_if_empty().push("");
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(TOTAL))
            .max_redirects(3)
            .http_status_as_error(false)
            .build()
            .new_agent();
        Ok(Self { base, agent, known: Cache::new(KEPT) })
    }

    /// The URL, with the slash that everything is relative to.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) async fn get(&self, application: &ApplicationId) -> Result<Loaded, RecipeError> {
        let entry = self.known.get_with(*application, Arc::default);
        let mut entry = entry.lock().await;
        if entry.fresh_until.is_none_or(|end| end <= Instant::now()) {
            *entry = match (self.fetch(application, entry.clone()).await, &entry.answer) {
                (Ok(fetched), _) => fetched,
                (Err(error), Some(Ok(_))) => {
                    warn!(%error, "going on with the recipe as it was");
                    Entry { fresh_until: soon(REST), ..entry.clone() }
                }
                (Err(error), _) => Entry { fresh_until: soon(REST), answer: Some(Err(error)), ..Entry::default() },
            };
        }
        entry.answer.clone().unwrap_or_else(|| Err(self.not_found(application)))
    }

    async fn fetch(&self, application: &ApplicationId, known: Entry) -> Result<Entry, RecipeError> {
        let url = relative(&self.base, &format!("{application}.yaml")).ok_or_else(|| self.not_found(application))?;
        let file = shown(&url);
        let not_found = self.not_found(application);
        let span = info_span!("fetch recipe", url.full = %file, otel.kind = "client");
        let agent = self.agent.clone();
        let name = file.clone();
        tokio::task::spawn_blocking(move || request(&agent, &url, &name, known, not_found))
            .instrument(span)
            .await
            .unwrap_or_else(|error| Err(RecipeError::Unreachable { file, reason: error.to_string() }))
    }

    /// How the recipe's file is named in messages.
    pub(crate) fn file(&self, application: &ApplicationId) -> String {
        format!("{}{application}.yaml", shown(&self.base))
    }

    fn not_found(&self, application: &ApplicationId) -> RecipeError {
        RecipeError::NotFound { application: *application, repository: shown(&self.base) }
    }
}

/// A reference resolved against a base it does not leave.
pub(crate) fn relative(base: &Url, reference: &str) -> Option<Url> {
    base.join(reference).ok().filter(|url| url.as_str().starts_with(base.as_str()))
}

/// A URL as it may be seen: without user and password.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return url.scheme().to_owned();
    }
    url.into()
}

fn request(agent: &Agent, url: &Url, file: &str, known: Entry, not_found: RecipeError) -> Result<Entry, RecipeError> {
    let unreachable = |reason: String| RecipeError::Unreachable { file: file.to_owned(), reason };
    let mut request = agent.get(url.as_str());
    if matches!(known.answer, Some(Ok(_))) {
        for (name, value) in [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.modified)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
    }
    let mut response = request.call().map_err(|error| unreachable(error.to_string()))?;
    let fresh_until = soon(FRESH);
    match response.status() {
        StatusCode::NOT_MODIFIED => Ok(Entry { fresh_until, ..known }),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Ok(Entry { fresh_until, answer: Some(Err(not_found)), ..Entry::default() })
        }
        StatusCode::OK => {
            let etag = text(response.headers(), header::ETAG);
            let modified = text(response.headers(), header::LAST_MODIFIED);
            let body = response.body_mut().with_config().limit(parse::MAX_BYTES).read_to_string();
            let answer = match body {
                Ok(body) => parse::recipe(&body, file),
                Err(ureq::Error::BodyExceedsLimit(_)) => Err(parse::too_large(file)),
                Err(error) => return Err(unreachable(error.to_string())),
            };
            Ok(Entry { fresh_until, etag, modified, answer: Some(answer) })
        }
        status => Err(unreachable(format!("the server answered {status}"))),
    }
}

fn soon(delay: Duration) -> Option<Instant> {
    Instant::now().checked_add(delay)
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
