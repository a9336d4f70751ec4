//! The API described by OpenAPI 3.1, and a page to browse it. Both need no token: they tell nothing about this tier1.

mod headers;
mod page;
mod refusals;

use super::{cloudlets, deploy, explain::Explanation, history, limit::limit, listing, recipe};
use actix_web::{
    HttpResponse,
    http::header::{CONTENT_SECURITY_POLICY, ContentType, LOCATION, X_CONTENT_TYPE_OPTIONS},
    middleware::from_fn,
    web::{self, Path, ServiceConfig},
};
pub(super) use headers::ClientHeaders;
pub(super) use refusals::{
    CloudletRefusals, ForgetRefusals, HistoryRefusals, ListRefusals, LookupRefusals, PostRefusals, RecipeRefusals,
    ReleaseRefusals, ReportRefusals,
};
use sinfonia_server::ApiError;
use sinfonia_wire::{CloudletDeployment, CloudletInfo, Problem, PublicRecipe};
use utoipa::{
    Modify, OpenApi, PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{AnyOfBuilder, ArrayBuilder, Schema},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// The page runs its own scripts and asks this server only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The OpenAPI document of tier1, as JSON.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn document() -> serde_json::Result<String> {
    Api::openapi().to_pretty_json().map(|json| json + "\n")
}

/// Adds `/api/openapi.json` and the page at `/api/`.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/api").wrap(from_fn(limit)).route(web::get().to(to_page)))
        .service(web::resource("/api/").wrap(from_fn(limit)).route(web::get().to(page)))
        .service(web::resource("/api/openapi.json").wrap(from_fn(limit)).route(web::get().to(json)))
        // Files of the page; what else is below /api/ is not for it to answer.
        .service(
            web::resource(r"/api/{file:[a-z0-9-]+\.(?:css|html|js|png|txt)}")
                .wrap(from_fn(limit))
                .route(web::get().to(file)),
        );
}

async fn json() -> Result<HttpResponse, actix_web::Error> {
    Ok(HttpResponse::Ok().insert_header(ContentType::json()).body(document()?))
}

/// The page's links are relative to `/api/`.
async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "api/")).finish()
}

async fn page() -> Result<HttpResponse, actix_web::Error> {
    part("index.html")
}

async fn file(name: Path<String>) -> Result<HttpResponse, actix_web::Error> {
    part(&name)
}

fn part(name: &str) -> Result<HttpResponse, actix_web::Error> {
    let file = page::file(name).ok_or_else(|| ApiError::not_found("not-found", "nothing is at this path"))?;
    Ok(HttpResponse::Ok()
        .content_type(file.media)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(file.content()?))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sinfonia tier1",
        description = "Matches clients with nearby cloudlets. Errors are RFC 9457 problems whose `code` is stable. \
                       Every path is the same with a slash at its end."
    ),
    paths(
        listing::list,
        cloudlets::report,
        listing::get,
        cloudlets::forget,
        history::get,
        deploy::post,
        deploy::get,
        deploy::delete,
        recipe::get
    ),
    components(schemas(Problem)),
    modifiers(&Bearer),
    // Nothing or a token: what is open to everybody is the operator's choice.
    security((), ("bearer" = []))
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token that tier1's operator made. Some tier1 let everybody in without."));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme.build()));
    }
}

/// Named here because attributes take no lifetimes.
pub(super) type Recipe = PublicRecipe<'static>;

/// What `GET deploy` answers, which depends on the query.
pub(super) struct Lookup;

impl PartialSchema for Lookup {
    fn schema() -> RefOr<Schema> {
        let list = |name: &str| ArrayBuilder::new().items(Ref::from_schema_name(name));
        AnyOfBuilder::new()
            .item(list(&CloudletInfo::name()))
            .item(list(&CloudletDeployment::name()))
            .item(Ref::from_schema_name(Explanation::name()))
            .description(Some(
                "Without a query the cloudlets that would be asked; with `cloudlet` the deployments there; with \
                 `explain` why which cloudlets would be asked.",
            ))
            .into()
    }
}

impl ToSchema for Lookup {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Explanation::name().into_owned(), Explanation::schema()));
        Explanation::schemas(schemas);
    }
}
