//! Finds out who sends a request before anything else is done with it.

use super::unavailable;
use crate::{
    access::{Caller, token_invalid, token_missing},
    service::Service,
};
use actix_web::{
    Error, HttpMessage as _, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::AUTHORIZATION,
    middleware::Next,
    web::Data,
};
use sinfonia_credentials::bearer;
use sinfonia_server::{ApiError, is_local};
use time::OffsetDateTime;

/// Answers 401 to those who are not allowed in; handlers get the others' [`Caller`].
pub(super) async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if let Some(service) = request.app_data::<Data<Service>>() {
        let caller = caller(request.request(), service)?;
        request.extensions_mut().insert(caller);
    }
    next.call(request).await
}

fn caller(request: &HttpRequest, service: &Service) -> Result<Caller, ApiError> {
    let is_loaded = service.store.is_loaded();
    let mut authorizations = request.headers().get_all(AUTHORIZATION);
    if let Some(authorization) = authorizations.next() {
        // One that is not valid is never as good as none.
        let token = authorization.to_str().ok().and_then(bearer).filter(|_| authorizations.next().is_none());
        let grant = token.and_then(|token| service.tokens.find(token, OffsetDateTime::now_utc()));
        return match grant {
            Some(grant) => Ok(Caller::Token(grant)),
            None if !is_loaded => Err(not_loaded()),
            None => Err(token_invalid()),
        };
    }
    if is_local(request) && !service.has_tokens_file && service.tokens.are_none() {
        return if is_loaded { Ok(Caller::Local) } else { Err(not_loaded()) };
    }
    if service.is_open { Ok(Caller::Anonymous) } else { Err(token_missing()) }
}

/// The database may know a token that we do not.
pub(super) fn not_loaded() -> ApiError {
    let detail = "the database has not been available since tier1 was started; try again";
    unavailable(detail)
}
