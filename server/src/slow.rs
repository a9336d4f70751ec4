//! Bodies that come too slowly.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use futures_util::Stream as _;
use futures_util::stream::poll_fn;
use tokio::time::sleep;

/// How long the head of a request may take.
pub(crate) const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long the body of a request may take.
pub(crate) const BODY_TIME_LIMIT: Duration = Duration::from_secs(20);

/// Middleware that gives up on bodies that take longer than [`BODY_TIME_LIMIT`], so that nobody holds connections by
/// sending a byte now and then.
pub(crate) async fn in_time(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let payload = request.take_payload();
    let payload = if matches!(payload, Payload::None) { payload } else { limited(payload) };
    request.set_payload(payload);
    next.call(request).await
}

fn limited(mut payload: Payload) -> Payload {
    let mut limit = Box::pin(sleep(BODY_TIME_LIMIT));
    let stream = poll_fn(move |context| {
        if let Poll::Ready(next) = Pin::new(&mut payload).poll_next(context) {
            return Poll::Ready(next);
        }
        let late = limit.as_mut().poll(context);
        late.map(|()| Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    });
    Payload::Stream { payload: Box::pin(stream) }
}

/// Whether a body was given up.
pub(crate) fn is_late(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(reason) if reason.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let start = [Ok("begin".into())];
        let body: Payload = Payload::Stream { payload: Box::pin(stream::iter(start).chain(stream::pending())) };
        let mut body = limited(body);
        assert_eq!(body.next().await.unwrap().unwrap(), "begin");
        let error = body.next().await.unwrap().unwrap_err();
        assert!(is_late(&error), "{error}");
    }
}
