//! The routes that every server has.

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::problem::ApiError;
use crate::readiness::Readiness;

/// Adds `GET /`, `/healthz`, `/readyz` and `/metrics`. [`crate::Server`] does so by itself; the
/// [`Readiness`] shown is the one in the application's data.
pub fn common_routes(routes: &mut ServiceConfig) {
    routes
        .service(web::resource("/").get(root))
        .service(web::resource("/healthz").get(alive))
        .service(web::resource("/readyz").get(ready))
        .service(web::resource("/metrics").get(metrics));
}

/// What answers where no route does.
pub(crate) async fn unmatched(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    if request.match_pattern().is_some() {
        let detail = format!("{} is not possible here", request.method());
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail));
    }
    Err(ApiError::not_found("not-found", "nothing is at this path"))
}

async fn root() -> HttpResponse {
    text("Sinfonia\n")
}

async fn alive() -> HttpResponse {
    text("alive\n")
}

async fn ready(readiness: Option<web::Data<Readiness>>) -> Result<HttpResponse, ApiError> {
    let pending = readiness.map(|readiness| readiness.pending()).unwrap_or_default();
    if pending.is_empty() {
        return Ok(text("ready\n"));
    }
    let detail = format!("waiting for: {}", pending.join(", "));
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail).with_extension("pending", pending))
}

async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(sinfonia_telemetry::prometheus_text())
}

fn text(body: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header(ContentType::plaintext()).body(body)
}
