//! The HTTP face, below `/api/v1`.

mod authenticate;
mod cloudlets;
mod deploy;
mod explain;
mod history;
mod limit;
mod listing;
mod openapi;
mod recipe;

use crate::{deploy::RETRY, outgoing::Outgoing, service::Service, store::UNAVAILABLE};
use actix_web::{
    Error, HttpRequest, Resource,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::{Next, from_fn},
    web::{self, Data, ServiceConfig, ThinData},
};
use authenticate::{authenticate, not_loaded};
pub(crate) use limit::RateLimit;
use limit::limit;
pub use openapi::document;
use sinfonia_recipes::RecipeError;
use sinfonia_server::ApiError;
use sinfonia_wire::API_BASE;
use std::sync::Arc;

/// Adds the routes, with or without a slash at the end.
pub(crate) fn routes(service: &Arc<Service>, outgoing: &Outgoing, config: &mut ServiceConfig) {
    let both = |path: &str| [format!("{API_BASE}{path}"), format!("{API_BASE}{path}/")];
    config
        .app_data(Data::from(Arc::clone(service)))
        .app_data(ThinData(outgoing.clone()))
        .service(
            known_only(both("/cloudlets").to_vec())
                .route(web::get().to(listing::list))
                .route(web::post().to(cloudlets::report)),
        )
        .service(
            // Before other patterns, since most requests are for it. A key in standard base64 may hold slashes: it is the
            // rest of the path.
            known_only(vec![format!("{API_BASE}/deploy/{{uuid}}/{{key:.+}}")])
                .route(web::post().to(deploy::post))
                .route(web::get().to(deploy::get))
                .route(web::delete().to(deploy::delete)),
        )
        .service(
            known_only(both("/cloudlets/{uuid}").to_vec())
                .route(web::get().to(listing::get))
                .route(web::delete().to(cloudlets::forget)),
        )
        .service(known_only(both("/cloudlets/{uuid}/metrics").to_vec()).route(web::get().to(history::get)))
        .service(guarded(both("/recipe/{uuid}").to_vec()).route(web::get().to(recipe::get)))
        .configure(openapi::routes);
}

/// Where callers are told apart, and kept from asking too often.
fn guarded(
    paths: Vec<String>,
) -> Resource<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    web::resource(paths).wrap(from_fn(limit)).wrap(from_fn(authenticate))
}

/// A resource behind all that stands before tier1's own: who is not let in, asks too often, or comes before the database
/// has been read gets no further.
pub fn known_only(
    paths: Vec<String>,
) -> Resource<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    guarded(paths).wrap(from_fn(known))
}

/// Answers 503 until what the database knows has been read once: half of it would be a wrong answer.
async fn known(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let service = request.app_data::<Data<Service>>();
    if service.is_some_and(|service| !service.store.is_loaded()) {
        return Err(not_loaded().into());
    }
    next.call(request).await
}

/// The database is away, for as long as [`UNAVAILABLE`] or longer.
fn unavailable(detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "database-unavailable", detail).with_retry_after(UNAVAILABLE)
}

/// The text of a header, if it is there.
fn header<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a str>, ApiError> {
    let value = request.headers().get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| ApiError::bad_request("invalid-header", format!("{name} is not ASCII text")))
}

fn recipe_error(error: &RecipeError) -> ApiError {
    let detail = error.to_string();
    match error {
        RecipeError::NotFound { .. } => ApiError::not_found("unknown-recipe", detail),
        RecipeError::Unreachable { .. } => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "recipes-unreachable", detail).with_retry_after(RETRY)
        }
        RecipeError::Invalid { .. } | RecipeError::LocalFromRemote { .. } | RecipeError::Unreadable { .. } => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "invalid-recipe", detail)
        }
    }
}
