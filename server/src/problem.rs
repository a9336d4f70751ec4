//! Errors as RFC 9457 problems.

use std::fmt;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::web::{JsonConfig, PathConfig, QueryConfig};
use actix_web::{Error, HttpResponse, ResponseError};
use sinfonia_wire::{PROBLEM_JSON, Problem};

use crate::slow::{BODY_TIME_LIMIT, is_late};

/// Longest body of a request, in bytes.
pub const BODY_LIMIT: usize = 256 * 1024;

/// An answer that reports an error.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Answer>);

#[derive(Clone, Debug)]
struct Answer {
    problem: Problem,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
}

impl ApiError {
    /// An error with a stable kebab-case `code` for programs and a `detail` for people: what was
    /// wrong and what to do.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Problem::new(status.as_u16(), code, detail.into()).into()
    }

    /// 400.
    pub fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 404.
    pub fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Tells the client when to try again, in whole seconds rounded up.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Says how to authenticate (`WWW-Authenticate`); for 401.
    #[must_use]
    pub fn with_challenge(mut self, challenge: &'static str) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// Adds a member of the problem beside the standard ones.
    #[must_use]
    pub fn with_extension(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.0.problem.extensions.insert(name.to_owned(), value.into());
        self
    }

    /// What is sent.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Answer { problem, retry_after: None, challenge: None }))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.problem.detail.as_deref().unwrap_or(&self.0.problem.title))
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(delay) = self.0.retry_after {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(challenge) = self.0.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge));
        }
        // `json` keeps a content type that is set.
        response.content_type(PROBLEM_JSON).json(&self.0.problem)
    }
}

/// Reads JSON bodies of at most [`BODY_LIMIT`].
pub(crate) fn json_config() -> JsonConfig {
    JsonConfig::default().limit(BODY_LIMIT).error_handler(|error, _| {
        let status = match error {
            JsonPayloadError::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            JsonPayloadError::Payload(ref reason) if is_late(reason) => StatusCode::REQUEST_TIMEOUT,
            ref other => other.status_code(),
        };
        let detail = match &error {
            JsonPayloadError::Deserialize(reason) => format!("the body is not valid: {reason}"),
            JsonPayloadError::ContentType => "the body has to be JSON: send Content-Type: application/json".to_owned(),
            _ if status == StatusCode::PAYLOAD_TOO_LARGE => {
                format!("the body is longer than {BODY_LIMIT} bytes")
            }
            JsonPayloadError::Payload(reason) if is_late(reason) => {
                format!("the body did not come within {} s", BODY_TIME_LIMIT.as_secs())
            }
            other => format!("the body cannot be read: {other}"),
        };
        let code = if status == StatusCode::BAD_REQUEST { "invalid-body" } else { code(status) };
        ApiError::new(status, code, detail).into()
    })
}

/// Answers 400 where a part of the path is not valid.
pub(crate) fn path_config() -> PathConfig {
    PathConfig::default().error_handler(|error, _| {
        let reason = match error {
            PathError::Deserialize(reason) => reason.to_string(),
            other => other.to_string(),
        };
        ApiError::bad_request("invalid-path", format!("the path is not valid: {reason}")).into()
    })
}

/// Answers 400 where a query parameter is not valid.
pub(crate) fn query_config() -> QueryConfig {
    QueryConfig::default().error_handler(|error, _| {
        let reason = match error {
            QueryPayloadError::Deserialize(reason) => reason.to_string(),
            other => other.to_string(),
        };
        ApiError::bad_request("invalid-query", format!("the query is not valid: {reason}")).into()
    })
}

/// Middleware that gives errors without a body of their own, such as those of the web framework, the
/// form of problems.
pub(crate) async fn problems(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?.map_into_boxed_body();
    let status = response.status();
    let is_plain = response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_plain {
        return Ok(response);
    }
    let error = response.response().error();
    // What went wrong inside is for the log, not for the client.
    if let Some(error) = error.filter(|_| status.is_server_error()) {
        tracing::error!(%error, "a request failed inside");
    }
    let reason = error.filter(|_| status.is_client_error());
    let detail = reason.map_or_else(|| title(status).to_owned(), ToString::to_string);
    let mut problem = ApiError::new(status, code(status), detail).error_response();
    for (name, value) in response.headers() {
        if name != CONTENT_TYPE && name != CONTENT_LENGTH {
            problem.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(response.into_response(problem))
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("error")
}

fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not-found",
        StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
        StatusCode::REQUEST_TIMEOUT => "body-too-slow",
        StatusCode::PAYLOAD_TOO_LARGE => "body-too-large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported-media-type",
        status if status.is_client_error() => "bad-request",
        _ => "internal-error",
    }
}
