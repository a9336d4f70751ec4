//! The HTTP face, below `/api/v1`.

mod cloudlets;
mod deploy;
mod recipe;

use crate::{deploy::RETRY, outgoing::Outgoing, service::Service};
use actix_web::{
    HttpRequest,
    http::StatusCode,
    web::{self, Data, ServiceConfig, ThinData},
};
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
            web::resource(both("/cloudlets").to_vec())
                .route(web::get().to(cloudlets::list))
                .route(web::post().to(cloudlets::report)),
        )
        .service(web::resource(both("/recipe/{uuid}").to_vec()).route(web::get().to(recipe::get)))
        .service(
            // A key in standard base64 may hold slashes: it is the rest of the path.
            web::resource(format!("{API_BASE}/deploy/{{uuid}}/{{key:.+}}"))
                .route(web::post().to(deploy::post))
                .route(web::get().to(deploy::get))
                .route(web::delete().to(deploy::delete)),
        );
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
