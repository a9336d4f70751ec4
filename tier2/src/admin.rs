//! Who may do what concerns the whole cloudlet: whoever knows the administrators' token, or, as long as there is none,
//! whoever asks from this machine.

use actix_web::{
    HttpRequest,
    http::{StatusCode, header::AUTHORIZATION},
};
use sinfonia_credentials::{TokenSource, bearer};
use sinfonia_server::{ApiError, is_local};

/// Checks callers.
#[derive(Clone, Default)]
pub(crate) struct Admin(Option<TokenSource>);

impl Admin {
    /// With this token; none for requests from loopback only.
    pub(crate) const fn new(token: Option<TokenSource>) -> Self {
        Self(token)
    }

    /// # Errors
    /// 401 or 403 for others.
    pub(crate) fn check(&self, request: &HttpRequest) -> Result<(), ApiError> {
        let Some(accepted) = &self.0 else {
            return if is_local(request) { Ok(()) } else { Err(far()) };
        };
        if is_presented(request, accepted) { Ok(()) } else { Err(unknown()) }
    }
}

/// Whether a request presents one of these tokens.
pub(crate) fn is_presented(request: &HttpRequest, accepted: &TokenSource) -> bool {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(bearer).is_some_and(|token| accepted.accepts(token))
}

fn far() -> ApiError {
    let detail = "only requests from this machine, to localhost or an address, may do this: start tier2 with \
                  --admin-token-file to allow others";
    ApiError::new(StatusCode::FORBIDDEN, "admin-only", detail)
}

fn unknown() -> ApiError {
    let detail = "this needs the administrators' token, as Authorization: Bearer TOKEN";
    ApiError::new(StatusCode::UNAUTHORIZED, "admin-token-missing", detail).with_challenge("Bearer")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use sinfonia_credentials::BearerToken;

    use super::*;

    fn status(admin: &Admin, peer: &str, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for header in headers {
            request = request.insert_header(*header);
        }
        admin.check(&request.to_http_request()).err().map(|error| error.problem().status)
    }

    #[test]
    fn without_a_token_only_this_machine_may() {
        let admin = Admin::new(None);
        assert_eq!(status(&admin, "127.0.0.1:1", &[]), None);
        assert_eq!(status(&admin, "[::1]:1", &[]), None);
        assert_eq!(status(&admin, "192.0.2.1:1", &[]), Some(403));
        assert_eq!(status(&admin, "127.0.0.1:1", &[("X-Forwarded-For", "192.0.2.1")]), Some(403));
    }

    #[test]
    fn with_a_token_only_who_knows_it_may() {
        let admin = Admin::new(Some("secret\n".parse::<BearerToken>().unwrap().into()));
        assert_eq!(status(&admin, "192.0.2.1:1", &[("Authorization", "Bearer secret")]), None);
        assert_eq!(status(&admin, "127.0.0.1:1", &[]), Some(401));
        for wrong in ["Bearer secre", "Bearer secret2", "Basic secret", "secret", "Bearer "] {
            assert_eq!(status(&admin, "127.0.0.1:1", &[("Authorization", wrong)]), Some(401), "{wrong}");
        }
    }
}
