//! Why a request to the cluster ends without a usable deployment, as it is kept in the object and told to clients.

use std::{borrow::Cow, time::Duration};

use thiserror::Error;
use time::OffsetDateTime;

use super::{api::ApiError, crd::DeploymentFailure};

/// A reason: a code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Failure {
    /// Kebab-case and stable.
    pub code: Cow<'static, str>,
    /// One sentence.
    pub message: String,
    /// The backend's last words, oldest first.
    pub output: Vec<String>,
}

impl Failure {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), output: vec![] }
    }

    /// Of the API server, which refuses and would again, or else is out of reach.
    pub(super) fn of_cluster(refuses: bool, message: impl Into<String>) -> Self {
        match refuses {
            true => Self::new("cluster-refuses", message),
            false => Self::new("cluster-unreachable", message),
        }
    }

    pub(super) fn draining() -> Self {
        Self::new("cloudlet-draining", "this cloudlet is being drained and takes no new deployments; ask another one")
    }

    pub(super) fn not_ready(waited: Duration, step: &str) -> Self {
        let message =
            format!("the deployment is not ready after {} s: it is {step}; it goes on, so ask again", waited.as_secs());
        Self::new("deployment-not-ready", message)
    }

    /// The same, of what was tried again for so long.
    pub(super) fn tried_for(self, time: Duration) -> Self {
        Self { message: format!("{} (tried again for {} s)", self.message, time.as_secs()), ..self }
    }

    /// As it is kept in the object.
    pub(super) fn record(&self, at: OffsetDateTime) -> DeploymentFailure {
        DeploymentFailure {
            code: self.code.to_string(),
            message: self.message.clone(),
            output: self.output.clone(),
            at,
        }
    }

    /// The HTTP status that says who can do something about it.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code.as_ref() {
            "too-many-deployments-of-client" => 429,
            "unknown-recipe" => 404,
            "local-recipe-from-remote" => 422,
            "deployment-not-ready" | "backend-never-ready" | "helm-timeout" => 504,
            "cloudlet-draining"
            | "too-many-deployments"
            | "no-client-address-left"
            | "cluster-unreachable"
            | "api-unreachable"
            | "helm-busy"
            | "namespace-ending"
            | "no-tunnel"
            | "unschedulable"
            | "recipes-unreachable"
            | "stopping" => 503,
            _ => 500,
        }
    }

    /// How soon asking again makes sense, if it passes by itself.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.code.as_ref() {
            "deployment-not-ready" => Some(Duration::from_secs(1)),
            _ if matches!(self.http_status(), 429 | 503) => Some(Duration::from_secs(10)),
            _ => None,
        }
    }
}

impl From<&DeploymentFailure> for Failure {
    fn from(kept: &DeploymentFailure) -> Self {
        Self { code: kept.code.clone().into(), message: kept.message.clone(), output: kept.output.clone() }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::of_cluster(error.is_refusal(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use sinfonia_recipes::RecipeError;

    use super::*;

    #[test]
    fn failures_for_recipes_have_the_status_of_recipes() {
        let (file, reason) = ("a recipe".to_owned(), "no".to_owned());
        for error in [
            RecipeError::Unreachable { file: file.clone(), reason },
            RecipeError::LocalFromRemote { file: file.clone() },
            RecipeError::NotFound { application: sinfonia_wire::ApplicationId::HELLOWORLD, repository: file },
        ] {
            let (status, code) = crate::routes::recipe_code(&error);
            assert_eq!(Failure::new(code, "").http_status(), status.as_u16(), "{code}");
        }
    }
}
