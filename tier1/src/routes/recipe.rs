use super::recipe_error;
use crate::service::Service;
use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use sinfonia_server::ApiError;
use sinfonia_wire::ApplicationId;

/// `GET /recipe/{uuid}/`. What is no UUID names no recipe.
pub(super) async fn get(service: Data<Service>, uuid: Path<String>) -> Result<HttpResponse, ApiError> {
    let application: ApplicationId = uuid
        .parse()
        .map_err(|error| ApiError::not_found("unknown-recipe", format!("there is no such recipe: {error}")))?;
    let recipe = service.recipes.get(&application).await.map_err(|error| recipe_error(&error))?;
    if recipe.restricted {
        let detail = format!("recipe {application} is restricted: it can be deployed but not read");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "restricted-recipe", detail));
    }
    Ok(HttpResponse::Ok().json(recipe.public()))
}
