//! The HTTP face: deployments by application and client key.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{self, ServiceConfig},
};
use sinfonia_recipes::RecipeError;
use sinfonia_server::ApiError;
use sinfonia_wire::{ApplicationId, PublicKey};

use crate::{
    deployment::{DeploymentId, Progress},
    driver::{InstallError, Unsupported},
    registry::{CreateError, Failure},
    service::{DeployError, Service},
    state::StateError,
};

/// How soon a client may try again after something that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Adds the routes of `service`.
pub(crate) fn configure(routes: &mut ServiceConfig, service: web::Data<Service>) {
    // The key is the rest of the path: in plain base64 it may hold slashes.
    let deployment = web::resource("/api/v1/deploy/{uuid}/{key:.*}").post(deploy).get(show).delete(release);
    routes.app_data(service).service(deployment);
}

type Path = web::Path<(String, String)>;

async fn deploy(service: web::Data<Service>, path: Path) -> Result<HttpResponse, ApiError> {
    let id = identify(&path)?;
    let deployment = service.deploy(id).await?;
    Ok(answer(&service, &deployment))
}

async fn show(service: web::Data<Service>, path: Path) -> Result<HttpResponse, ApiError> {
    let id = identify(&path)?;
    let none = || {
        let detail = format!("there is no deployment of {} for this key here: POST makes one", id.application);
        ApiError::not_found("no-deployment", detail)
    };
    let deployment = service.registry().get(&id).ok_or_else(none)?;
    Ok(answer(&service, &deployment))
}

async fn release(service: web::Data<Service>, path: Path) -> Result<HttpResponse, ApiError> {
    service.registry().delete(&identify(&path)?).await;
    Ok(HttpResponse::NoContent().finish())
}

fn answer(service: &Service, deployment: &crate::registry::Deployment) -> HttpResponse {
    // Exactly 200 and no charset, or existing clients fail.
    HttpResponse::Ok().json([deployment.describe(service.tunnel())])
}

fn identify(path: &(String, String)) -> Result<DeploymentId, ApiError> {
    let (application, key) = path;
    let key = key.strip_suffix('/').unwrap_or(key);
    Ok(DeploymentId {
        application: application
            .parse::<ApplicationId>()
            .map_err(|error| ApiError::bad_request("invalid-uuid", error.to_string()))?,
        key: key.parse::<PublicKey>().map_err(|error| ApiError::bad_request("invalid-key", error.to_string()))?,
    })
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Recipe(error) => recipe_error(&error),
            DeployError::Unsupported(Unsupported(detail)) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "recipe-not-supported", detail)
            }
            DeployError::Create(error) => create_error(&error),
            DeployError::Failed { failure, progress } => failure_error(&failure, &progress),
            DeployError::Deleted => Self::new(
                StatusCode::CONFLICT,
                "deployment-deleted",
                "the deployment was deleted while it was being made: ask again if it is still wanted",
            ),
            DeployError::TooSlow { waited, progress } => {
                let detail = format!(
                    "the deployment is not ready after {} s: it is {progress}; it goes on, so ask again",
                    waited.as_secs()
                );
                Self::new(StatusCode::GATEWAY_TIMEOUT, "deployment-not-ready", detail)
                    .with_retry_after(Duration::from_secs(1))
                    .with_extension("output", progress.output())
            }
        }
    }
}

fn recipe_error(error: &RecipeError) -> ApiError {
    let (status, code) = match error {
        RecipeError::NotFound { .. } => (StatusCode::NOT_FOUND, "unknown-recipe"),
        RecipeError::Invalid { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "invalid-recipe"),
        RecipeError::LocalFromRemote { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "local-recipe-from-remote"),
        RecipeError::Unreadable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "unreadable-recipe"),
        RecipeError::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "recipes-unreachable"),
    };
    let answer = ApiError::new(status, code, error.to_string());
    match status {
        StatusCode::SERVICE_UNAVAILABLE => answer.with_retry_after(RETRY_AFTER),
        _ => answer,
    }
}

fn create_error(error: &CreateError) -> ApiError {
    let code = match error {
        CreateError::Full(_) => "too-many-deployments",
        CreateError::Exhausted(_) => "no-client-address-left",
        CreateError::Stopping => "stopping",
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string()).with_retry_after(RETRY_AFTER)
}

fn failure_error(failure: &Failure, progress: &Progress) -> ApiError {
    let (status, code) = match failure {
        Failure::Install(InstallError::Command(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "command-not-started"),
        Failure::Install(InstallError::Exited { .. }) => (StatusCode::INTERNAL_SERVER_ERROR, "backend-exited"),
        Failure::Install(InstallError::NeverReady { .. }) => (StatusCode::GATEWAY_TIMEOUT, "backend-never-ready"),
        Failure::Install(InstallError::Platform(_)) => (StatusCode::SERVICE_UNAVAILABLE, "cannot-run-backends"),
        Failure::Unstable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "backend-unstable"),
        Failure::State(StateError::NoSpace(_)) => (StatusCode::INSUFFICIENT_STORAGE, "state-directory-full"),
        Failure::State(_) => (StatusCode::SERVICE_UNAVAILABLE, "state-directory-not-writable"),
    };
    let answer = ApiError::new(status, code, failure.to_string());
    let output = progress.output();
    if output.is_empty() { answer } else { answer.with_extension("output", output) }
}
