//! What a tier answered, as deployments or as one sentence about why there are none.

use serde_json::{Map, Value};
use sinfonia_wire::{ApplicationId, CloudletDeployment, CloudletInfo, Problem, Results};

use crate::Error;
use crate::http::{HttpError, Response};

/// No reason is repeated at greater length, characters.
const REASON_LIMIT: usize = 600;

/// Of how many cloudlets it is told how they failed.
const FAILURES_LIMIT: usize = 16;

/// Whom an answer came from, and what it is about.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) application: ApplicationId,
}

impl Server {
    /// The usable deployments of an answer, at least one and no more than a client may ask for.
    pub(crate) fn deployments(&self, answer: Result<Response, HttpError>) -> Result<Vec<CloudletDeployment>, Error> {
        let entries: Vec<Value> = self.list(answer)?;
        let mut deployments = Vec::new();
        let mut reason = None;
        for entry in entries {
            if deployments.len() == Results::MAX.get() {
                break;
            }
            match serde_json::from_value::<CloudletDeployment>(entry) {
                Ok(deployment) => deployments.push(deployment),
                Err(error) => {
                    tracing::debug!(%error, "a deployment in the answer is not valid");
                    reason.get_or_insert(error.to_string());
                }
            }
        }
        match (deployments.is_empty(), reason) {
            (false, _) => Ok(deployments),
            (true, Some(reason)) => Err(self.failed(format!("its answer is not a deployment ({reason})"))),
            (true, None) => Err(self.no_cloudlet("it answered with an empty list".into())),
        }
    }

    /// The cloudlets of an answer.
    pub(crate) fn cloudlets(&self, answer: Result<Response, HttpError>) -> Result<Vec<CloudletInfo>, Error> {
        let entries: Vec<Value> = self.list(answer)?;
        let parse = |entry| {
            serde_json::from_value(entry)
                .map_err(|error| self.failed(format!("its answer is not a list of cloudlets ({error})")))
        };
        entries.into_iter().map(parse).collect()
    }

    fn list(&self, answer: Result<Response, HttpError>) -> Result<Vec<Value>, Error> {
        let answer = answer.map_err(|error| self.no_answer(error))?;
        if answer.status != 200 {
            return Err(self.refused(&answer));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.failed(format!("its answer is not a JSON list ({error}); is it a Sinfonia tier?")))
    }

    fn no_answer(&self, error: HttpError) -> Error {
        match error {
            HttpError::Unreachable(reason) => Error::Unreachable { server: self.name.clone(), reason },
            error => self.not_deployed(error.to_string(), true),
        }
    }

    fn refused(&self, answer: &Response) -> Error {
        if (300..400).contains(&answer.status) {
            let target = answer.location.as_deref().unwrap_or("an unnamed address");
            return self.failed(format!("it redirects to {target}; use that address"));
        }
        let problem = Problem::from_answer(answer.status, &answer.body);
        let reason = explain(&problem);
        match problem.code.as_deref() {
            Some("no-cloudlet" | "no-cloudlets" | "no-candidate" | "no-candidates") => self.no_cloudlet(reason),
            Some("unknown-recipe" | "recipe-not-found" | "unknown-application") => self.unknown(reason),
            Some(
                "token-missing" | "token-invalid" | "scope-missing" | "recipe-not-allowed" | "deploy-token-missing",
            ) => Error::NotAllowed { server: self.name.clone(), reason: shorten(&reason) },
            None if answer.status == 404 => self.unknown(reason),
            // Too many requests, and what a gateway or a busy server says.
            _ => self.not_deployed(reason, matches!(answer.status, 408 | 425 | 429 | 502..=504)),
        }
    }

    fn unknown(&self, reason: String) -> Error {
        Error::UnknownApplication { server: self.name.clone(), application: self.application, reason: shorten(&reason) }
    }

    fn no_cloudlet(&self, reason: String) -> Error {
        Error::NoCloudlet { server: self.name.clone(), application: self.application, reason: shorten(&reason) }
    }

    fn failed(&self, reason: String) -> Error {
        self.not_deployed(reason, false)
    }

    fn not_deployed(&self, reason: String, passing: bool) -> Error {
        Error::Deploy { server: self.name.clone(), application: self.application, reason: shorten(&reason), passing }
    }
}

/// Whether a DELETE did what can be done; 405 and 500 are how reference servers say that they do not know it.
pub(crate) fn is_released(status: u16) -> bool {
    matches!(status, 200..300 | 404 | 405 | 500)
}

/// A problem as one sentence, with how each cloudlet failed where it lists that.
fn explain(problem: &Problem) -> String {
    let said = problem.detail.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or(&problem.title);
    let mut sentence = shorten(said.trim().trim_end_matches('.'));
    for failure in failures(&problem.extensions).take(FAILURES_LIMIT) {
        // The detail may name the cloudlets already.
        if !sentence.contains(&failure) {
            sentence = format!("{sentence}; {failure}");
        }
    }
    format!("{sentence} (HTTP status {})", problem.status)
}

fn failures(members: &Map<String, Value>) -> impl Iterator<Item = String> + '_ {
    let listed = ["failures", "cloudlets", "errors"].into_iter().filter_map(|name| members.get(name)?.as_array());
    listed.flatten().filter_map(|failure| {
        let text = |names: &[&str]| names.iter().find_map(|name| failure.get(name)?.as_str());
        let cloudlet = text(&["name", "cloudlet", "uuid", "endpoint"]);
        let reason = text(&["detail", "reason", "error", "title"]);
        match (cloudlet, reason, failure.as_str()) {
            (Some(cloudlet), Some(reason), _) => Some(format!("{cloudlet}: {reason}")),
            (_, Some(text), _) | (_, _, Some(text)) => Some(text.to_owned()),
            _ => None,
        }
    })
}

/// What others wrote goes to a terminal: one line, nothing that steers it, not endless.
fn shorten(text: &str) -> String {
    let parts = text.split(|c: char| c.is_whitespace() || c.is_control() || turns_direction(c));
    let words: Vec<&str> = parts.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON_LIMIT) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Unicode's bidirectional controls, which make text appear in another order than it has.
const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests;
