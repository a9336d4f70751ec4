//! Errors between tiers, by RFC 9457.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

const BLANK: &str = "about:blank";

/// An RFC 9457 problem. Members of the wrong type are ignored when read, as the RFC demands.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// URI of the kind of problem; `about:blank` if the status says it all.
    pub type_: String,
    /// The kind of problem in words; the same each time.
    pub title: String,
    /// HTTP status; 0 if the sender left it out.
    pub status: u16,
    /// What went wrong this time and what to do about it.
    pub detail: Option<String>,
    /// URI of this occurrence.
    pub instance: Option<String>,
    /// Stable kebab-case name of the kind of problem, for programs.
    pub code: Option<String>,
    /// Further members.
    pub extensions: Map<String, Value>,
}

impl Problem {
    /// A problem with the title that belongs to its status.
    #[must_use]
    pub fn new(status: u16, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            type_: BLANK.to_owned(),
            title: title(status).to_owned(),
            status,
            detail: Some(detail.into()),
            instance: None,
            code: Some(code.into()),
            extensions: Map::new(),
        }
    }

    /// Adds a further member. The standard ones cannot be replaced in this way.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extensions.insert(name.into(), value.into());
        self
    }

    /// What a server answered with an error status: its problem, or one made of its text.
    #[must_use]
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        let mut problem = match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Self::from_members(members),
            Ok(Value::String(text)) => Self::from_text(&text),
            _ => Self::from_text(&String::from_utf8_lossy(body)),
        };
        problem.status = status;
        if problem.title.is_empty() {
            title(status).clone_into(&mut problem.title);
        }
        problem
    }

    /// Pages for browsers say nothing to a person at a terminal, and are left out.
    fn from_text(text: &str) -> Self {
        const LIMIT: usize = 500;
        let mut problem = Self::from_members(Map::new());
        let text = text.trim();
        if !text.is_empty() && !text.starts_with('<') {
            problem.detail = Some(text.chars().take(LIMIT).collect());
        }
        problem
    }

    fn from_members(mut members: Map<String, Value>) -> Self {
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let type_ = text("type").unwrap_or_else(|| BLANK.to_owned());
        let (given_title, detail) = (text("title"), text("detail"));
        let (instance, code) = (text("instance"), text("code"));
        let status = members
            .remove("status")
            .and_then(|status| status.as_u64())
            .and_then(|status| status.try_into().ok())
            .unwrap_or_default();
        Self {
            type_,
            title: given_title.unwrap_or_else(|| title(status).to_owned()),
            status,
            detail,
            instance,
            code,
            extensions: members,
        }
    }
}

/// Title and detail on one line, without control characters: a stranger may have sent them to a terminal.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail.as_deref().unwrap_or_default();
        let separator = if self.title.is_empty() || detail.is_empty() { "" } else { ": " };
        let text = [&self.title, separator, detail].concat();
        if text.is_empty() {
            return write!(f, "HTTP status {}", self.status);
        }
        f.write_str(&text.replace(char::is_control, " "))
    }
}

impl std::error::Error for Problem {}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = self.extensions.clone();
        members.insert("type".to_owned(), self.type_.as_str().into());
        members.insert("title".to_owned(), self.title.as_str().into());
        match self.status {
            0 => members.remove("status"),
            status => members.insert("status".to_owned(), status.into()),
        };
        for (name, value) in [("detail", &self.detail), ("instance", &self.instance), ("code", &self.code)] {
            match value {
                Some(text) => members.insert(name.to_owned(), text.as_str().into()),
                None => members.remove(name),
            };
        }
        members.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Problem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from_members)
    }
}

/// The reason phrase of RFC 9110.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        _ => "",
    }
}
