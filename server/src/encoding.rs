//! Bodies that are compressed.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError as _};

use crate::problem::ApiError;

const IDENTITY: &str = "identity";

/// Middleware that refuses compressed bodies unread: the web framework would inflate what has come, a thousandfold,
/// before it knows that this is too long, and before anybody asks who sent it.
pub(crate) async fn uncompressed(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(encoding) = encoding(&request) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let detail = format!("the body is in the encoding {encoding:?}: send it as it is, without Content-Encoding");
    let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", detail);
    let mut response = error.error_response();
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(IDENTITY));
    Ok(request.into_response(response))
}

/// What has to be undone to read the body.
fn encoding(request: &ServiceRequest) -> Option<String> {
    let values = request.headers().get_all(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let is_plain =
        |text: &str| text.split(',').map(str::trim).all(|one| one.is_empty() || one.eq_ignore_ascii_case(IDENTITY));
    values.into_iter().find(|text| !is_plain(text)).map(Into::into)
}
