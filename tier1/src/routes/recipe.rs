use super::{
    openapi::{Recipe, RecipeRefusals},
    recipe_error,
};
use crate::{access::Caller, service::Service};
use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path, ReqData},
};
use sinfonia_server::ApiError;
use sinfonia_wire::ApplicationId;

/// `GET /recipe/{uuid}/`. What is no UUID names no recipe.
#[utoipa::path(
    get,
    path = "/api/v1/recipe/{uuid}",
    operation_id = "readRecipe",
    tag = "recipes",
    summary = "How an application is deployed",
    description = "",
    params(("uuid" = ApplicationId, Path, description = "The application.")),
    responses((status = 200, description = "The recipe, without what only cloudlets need.", body = Recipe), RecipeRefusals)
)]
pub(super) async fn get(
    service: Data<Service>,
    caller: ReqData<Caller>,
    uuid: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let application: ApplicationId = uuid
        .parse()
        .map_err(|error| ApiError::not_found("unknown-recipe", format!("there is no such recipe: {error}")))?;
    let recipe = service.recipes.get(&application).await.map_err(|error| recipe_error(&error))?;
    if recipe.restricted && !caller.may_read_restricted(application) {
        let detail = format!("recipe {application} is restricted: only tokens that list it may read it");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "restricted-recipe", detail));
    }
    Ok(HttpResponse::Ok().json(recipe.public()))
}
