//! The frame of Sinfonia's HTTP servers.
//!
//! A server brings its routes; [`Server`] adds what all of them share: `/healthz`, `/readyz`,
//! `/metrics` and `GET /`, errors as RFC 9457 problems, one span and one metric per request, and a
//! graceful stop.
//!
//! ```no_run
//! use actix_web::{HttpResponse, web};
//! use sinfonia_server::{Readiness, ServerOptions, serve};
//!
//! # async fn example() -> Result<(), sinfonia_server::ServeError> {
//! serve(ServerOptions::new("sinfonia-example", 5000), Readiness::new(), |routes| {
//!     routes.service(web::resource("/hello").get(|| async { HttpResponse::Ok().body("hello") }));
//! })
//! .await
//! # }
//! ```

mod client;
mod encoding;
mod forwarded;
mod observe;
mod problem;
mod readiness;
mod routes;
mod serve;
mod slow;

pub use client::{client_address, is_local};
pub use problem::{ApiError, BODY_LIMIT};
pub use readiness::{Readiness, ReadinessTask};
pub use routes::common_routes;
pub use serve::{ServeError, Server, ServerOptions, serve};
