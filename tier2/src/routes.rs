//! The HTTP face: deployments by application and client key.

use std::{sync::Arc, time::Duration};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header::HeaderMap},
    middleware::{Next, from_fn},
    web::{self, ServiceConfig},
};
use serde::Deserialize;
use serde_json::json;
use sinfonia_credentials::TokenSource;
use sinfonia_recipes::RecipeError;
use sinfonia_server::{ApiError, client_address};
use sinfonia_wire::{ApplicationId, Network, PublicKey};

use crate::{
    admin::{Admin, is_presented},
    deployment::{DeploymentId, Progress},
    deployments::{Deployments, Request},
    driver::{InstallError, Unsupported},
    kubernetes,
    registry::{CreateError, Failure},
    service::DeployError,
    state::StateError,
};

/// How soon a client may try again after something that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The longest time that a client may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What requests are answered with.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) deployments: Arc<dyn Deployments>,
    pub(crate) admin: Admin,
    /// What deployment requests have to present, if anything.
    pub(crate) deploy_token: Option<TokenSource>,
    /// Who may say for whom they ask.
    pub(crate) trusted_proxies: Arc<[Network]>,
    /// Called when the cloudlet is drained or taken into use again, so that tier1 learns of it at once.
    pub(crate) drained: Arc<dyn Fn() + Send + Sync>,
}

/// Adds the routes.
pub(crate) fn configure(routes: &mut ServiceConfig, face: Face) {
    // The key is the rest of the path: in plain base64 it may hold slashes.
    let deployment = web::resource("/api/v1/deploy/{uuid}/{key:.*}")
        .wrap(from_fn(authenticate))
        .post(deploy)
        .get(show)
        .delete(release);
    let drain = web::resource("/api/v1/drain").post(drain).delete(undrain);
    let list = web::resource("/api/v1/deployments").get(list);
    routes.app_data(web::Data::new(face)).service(deployment).service(drain).service(list);
}

/// Answers 401 to whoever does not present the token that deployment requests need, if they need one.
async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let accepted = request.app_data::<web::Data<Face>>().and_then(|face| face.deploy_token.clone());
    if accepted.is_some_and(|accepted| !is_presented(request.request(), &accepted)) {
        let detail =
            "this cloudlet deploys for those who have its token only, as Authorization: Bearer TOKEN: ask tier1";
        let error = ApiError::new(StatusCode::UNAUTHORIZED, "deploy-token-missing", detail).with_challenge("Bearer");
        return Err(error.into());
    }
    next.call(request).await
}

type Path = web::Path<(String, String)>;

async fn deploy(request: HttpRequest, face: web::Data<Face>, path: Path) -> Result<HttpResponse, ApiError> {
    let wait = preferred_wait(request.headers())?;
    let client = client_address(&request, &face.trusted_proxies);
    let deployment = face.deployments.deploy(Request { id: identify(&path)?, client, wait }).await?;
    // Exactly 200 and no charset, or existing clients fail.
    let mut answer = HttpResponse::Ok();
    if let Some(wait) = wait {
        answer.insert_header(("Preference-Applied", format!("wait={}", wait.as_secs())));
    }
    Ok(answer.json([deployment]))
}

async fn show(face: web::Data<Face>, path: Path) -> Result<HttpResponse, ApiError> {
    let id = identify(&path)?;
    let none = || {
        let detail = format!("there is no deployment of {} for this key here: POST makes one", id.application);
        ApiError::not_found("no-deployment", detail)
    };
    let deployment = face.deployments.find(id).await?.ok_or_else(none)?;
    Ok(HttpResponse::Ok().json([deployment]))
}

async fn release(face: web::Data<Face>, path: Path) -> Result<HttpResponse, ApiError> {
    face.deployments.release(identify(&path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What administrators may ask of a list.
#[derive(Deserialize)]
struct ListQuery {
    /// The backends' last lines of output too.
    #[serde(default)]
    output: bool,
}

async fn list(
    request: HttpRequest,
    face: web::Data<Face>,
    query: web::Query<ListQuery>,
) -> Result<HttpResponse, ApiError> {
    face.admin.check(&request)?;
    Ok(HttpResponse::Ok().json(face.deployments.list(query.output).await?))
}

async fn drain(request: HttpRequest, face: web::Data<Face>) -> Result<HttpResponse, ApiError> {
    set_draining(&request, &face, true).await
}

async fn undrain(request: HttpRequest, face: web::Data<Face>) -> Result<HttpResponse, ApiError> {
    set_draining(&request, &face, false).await
}

async fn set_draining(request: &HttpRequest, face: &Face, draining: bool) -> Result<HttpResponse, ApiError> {
    face.admin.check(request)?;
    face.deployments.drain(draining).await?;
    (face.drained)();
    Ok(HttpResponse::Ok().json(json!({ "draining": draining })))
}

/// `Prefer: wait=N`, whole seconds (RFC 7240, 4.3). Other preferences do not concern us.
fn preferred_wait(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let values = headers.get_all("Prefer").filter_map(|value| value.to_str().ok());
    let wait = values
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"));
    let Some((_, seconds)) = wait else { return Ok(None) };
    let seconds = seconds.trim().trim_matches('"');
    let seconds = seconds.parse::<u32>().map_err(|_| {
        ApiError::bad_request("invalid-preference", "Prefer: wait has to be a whole number of seconds, as wait=10")
    })?;
    Ok(Some(Duration::from_secs(seconds.into()).min(LONGEST_WAIT)))
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
            DeployError::Cluster(failure) => cluster_failure(failure),
            DeployError::Api(error) => cluster_failure(error.into()),
            DeployError::State(error) => failure_error(&Failure::State(error), &Progress::default()),
            DeployError::Draining => Self::new(StatusCode::SERVICE_UNAVAILABLE, "cloudlet-draining", error.to_string())
                .with_retry_after(RETRY_AFTER),
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

/// The status and code of a recipe that cannot be had.
pub(crate) fn recipe_code(error: &RecipeError) -> (StatusCode, &'static str) {
    match error {
        RecipeError::NotFound { .. } => (StatusCode::NOT_FOUND, "unknown-recipe"),
        RecipeError::Invalid { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "invalid-recipe"),
        RecipeError::LocalFromRemote { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "local-recipe-from-remote"),
        RecipeError::Unreadable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "unreadable-recipe"),
        RecipeError::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "recipes-unreachable"),
    }
}

fn cluster_failure(failure: kubernetes::Failure) -> ApiError {
    let status = StatusCode::from_u16(failure.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = ApiError::new(status, &failure.code, failure.message.clone());
    if let Some(delay) = failure.retry_after() {
        answer = answer.with_retry_after(delay);
    }
    if failure.output.is_empty() { answer } else { answer.with_extension("output", failure.output) }
}

fn recipe_error(error: &RecipeError) -> ApiError {
    let (status, code) = recipe_code(error);
    let answer = ApiError::new(status, code, error.to_string());
    match status {
        StatusCode::SERVICE_UNAVAILABLE => answer.with_retry_after(RETRY_AFTER),
        _ => answer,
    }
}

fn create_error(error: &CreateError) -> ApiError {
    let (status, code) = match error {
        CreateError::ClientFull(_) => (StatusCode::TOO_MANY_REQUESTS, "too-many-deployments-of-client"),
        CreateError::Full(_) => (StatusCode::SERVICE_UNAVAILABLE, "too-many-deployments"),
        CreateError::Exhausted(_) => (StatusCode::SERVICE_UNAVAILABLE, "no-client-address-left"),
        CreateError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    ApiError::new(status, code, error.to_string()).with_retry_after(RETRY_AFTER)
}

fn failure_error(failure: &Failure, progress: &Progress) -> ApiError {
    let (status, code) = match failure {
        Failure::Install(error) => {
            let status = match error {
                InstallError::Command(_) | InstallError::Exited { .. } => StatusCode::INTERNAL_SERVER_ERROR,
                InstallError::NeverReady { .. } => StatusCode::GATEWAY_TIMEOUT,
                InstallError::Platform(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, error.code())
        }
        Failure::Unstable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "backend-unstable"),
        Failure::State(StateError::NoSpace(_)) => (StatusCode::INSUFFICIENT_STORAGE, "state-directory-full"),
        Failure::State(_) => (StatusCode::SERVICE_UNAVAILABLE, "state-directory-not-writable"),
    };
    let answer = ApiError::new(status, code, failure.to_string());
    let output = progress.output();
    if output.is_empty() { answer } else { answer.with_extension("output", output) }
}
