//! How many requests one caller may send.

use crate::{access::Caller, service::Service};
use actix_web::{
    Error, HttpMessage as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
    web::Data,
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use sinfonia_server::{ApiError, client_address};
use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use uuid::Uuid;

/// Seconds' worth of requests that may come at once.
const BURST: u32 = 4;
/// Requests after which those who have been quiet are forgotten.
const SWEEP: usize = 65_536;

/// Counts requests by caller. A caller who stays within the rate never hears of it.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
    seen: AtomicUsize,
    rate: NonZeroU32,
}

/// Who is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A token, wherever it comes from.
    Token(Uuid),
    /// Without a token: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has.
    Address(IpAddr),
}

impl RateLimit {
    /// At most `rate` requests per second of each caller, after a burst of four seconds' worth.
    #[must_use]
    pub(crate) fn new(rate: NonZeroU32) -> Self {
        let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST - 1)));
        let limiter = RateLimiter::dashmap(quota);
        Self { limiter, clock: DefaultClock::default(), seen: AtomicUsize::new(0), rate }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// How long to wait.
    fn take(&self, key: Key) -> Result<(), Duration> {
        if self.seen.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&key).map_err(|refusal| refusal.wait_time_from(self.clock.now()))
    }
}

/// Who is counted; requests of this host itself are not.
fn key(caller: Option<&Caller>, address: IpAddr) -> Option<Key> {
    if let Some(Caller::Token(grant)) = caller {
        return Some(Key::Token(grant.principal));
    }
    match address {
        _ if address.is_loopback() => None,
        IpAddr::V4(_) => Some(Key::Address(address)),
        IpAddr::V6(address) => {
            let subscriber = u128::from(address) >> 64 << 64;
            Some(Key::Address(Ipv6Addr::from(subscriber).into()))
        }
    }
}

/// Answers 429 to those who ask too often.
pub(super) async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if let Some(service) = request.app_data::<Data<Service>>()
        && let Some(limit) = &service.rate_limit
    {
        let address = client_address(request.request(), &service.trusted_proxies);
        let key = key(request.extensions().get::<Caller>(), address);
        if let Some(wait) = key.and_then(|key| limit.take(key).err()) {
            let detail = format!("more than {} requests per second; wait as long as Retry-After says", limit.rate);
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail);
            return Err(error.with_retry_after(wait).into());
        }
    }
    next.call(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Key {
        key(None, text.parse().unwrap()).unwrap()
    }

    #[test]
    fn callers_are_counted_apart_and_subscribers_as_one() {
        assert_eq!(address("2001:db8:1:2::3"), address("2001:db8:1:2:ffff::4"));
        assert_ne!(address("2001:db8:1:2::3"), address("2001:db8:1:3::3"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(key(None, "127.0.0.9".parse().unwrap()), None);
        assert_eq!(key(None, "::1".parse().unwrap()), None);
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_wait_is_told() {
        let limit = RateLimit::new(NonZeroU32::new(10).unwrap());
        let one = address("192.0.2.1");
        assert_eq!((0..40).filter(|_| limit.take(one).is_ok()).count(), 40);
        let wait = (0..10).find_map(|_| limit.take(one).err()).unwrap();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(limit.take(address("192.0.2.2")).is_ok());
    }
}
