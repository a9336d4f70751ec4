//! One span and one measurement for each request.
//!
//! Own middleware, because `opentelemetry-instrumentation-actix-web` records the raw path, which holds
//! clients' keys, and believes forwarded headers of anyone, and because `tracing-actix-web` has no
//! metrics and does not know this OpenTelemetry release.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use sinfonia_telemetry::opentelemetry::KeyValue;
use sinfonia_telemetry::opentelemetry::metrics::{Histogram, ObservableUpDownCounter};
use sinfonia_telemetry::{meter, propagation};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, debug, info_span, warn};

/// Middleware that continues the caller's trace and follows OpenTelemetry's semantic conventions.
/// Paths appear as route templates only.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let method = method(request.method());
    let route = request.match_pattern().map(template);
    let scheme = if request.app_config().secure() { "https" } else { "http" };
    let span = server_span(&request, method, route.as_deref(), scheme);
    let active = Active::begin(method, scheme);

    let result = next.call(request).instrument(span.clone()).await;

    drop(active);
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let error = match &result {
        Ok(response) => response.response().error(),
        Err(error) => Some(error),
    };
    span.record("http.response.status_code", i64::from(status.as_u16()));
    span.in_scope(|| log(method, route.as_deref(), status, started.elapsed(), error));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    measure(method, route, scheme, status, started.elapsed());
    result
}

/// The pattern of a route without the expressions that its parameters have to match.
fn template(pattern: String) -> String {
    if !pattern.contains(':') {
        return pattern;
    }
    let (mut depth, mut in_expression) = (0, false);
    let kept = pattern.chars().filter(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ':' if depth == 1 => in_expression = true,
            _ => {}
        }
        in_expression &= depth > 0;
        !in_expression
    });
    kept.collect()
}

fn server_span(request: &ServiceRequest, method: &str, route: Option<&str>, scheme: &str) -> Span {
    let span = info_span!(
        "request",
        otel.name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        network.peer.address = request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()),
        url.scheme = scheme,
        otel.status_code = Empty,
        "error.type" = Empty,
    );
    let headers = request.headers();
    let parent = propagation::extract(|name| headers.get(name)?.to_str().ok());
    propagation::set_parent(&span, parent);
    span
}

fn log(method: &str, route: Option<&str>, status: StatusCode, duration: Duration, error: Option<&Error>) {
    let route = route.unwrap_or("unknown path");
    let reason = error.map(tracing::field::display);
    // 503 is how a server that is not ready, or busy, is meant to answer.
    let failed = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    let status = status.as_u16();
    if failed {
        warn!(status, ?duration, reason, "{method} {route} failed");
    } else {
        debug!(status, ?duration, reason, "{method} {route}");
    }
}

fn measure(method: &'static str, route: Option<String>, scheme: &'static str, status: StatusCode, duration: Duration) {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        KeyValue::new("url.scheme", scheme),
    ];
    attributes.extend(route.map(|route| KeyValue::new("http.route", route)));
    if status.is_server_error() {
        attributes.push(KeyValue::new("error.type", status.as_str().to_owned()));
    }
    INSTRUMENTS.duration.record(duration.as_secs_f64(), &attributes);
}

/// The method, as long as it is a known one: a client must not make new metrics.
fn method(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

/// Counts a request as active until dropped, also when its client goes away in the middle.
struct Active(&'static Slot);

impl Active {
    fn begin(method: &str, scheme: &str) -> Self {
        let position = |words: &[&str], word| words.iter().position(|known| *known == word).unwrap_or(0);
        let slot = &INSTRUMENTS.slots[position(&METHODS, method)][position(&SCHEMES, scheme)];
        slot.seen.store(true, Ordering::Relaxed);
        slot.active.fetch_add(1, Ordering::Relaxed);
        Self(slot)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stands for all methods that are not known.
const OTHER: &str = "_OTHER";

const METHODS: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", OTHER];

const SCHEMES: [&str; 2] = ["http", "https"];

/// The active requests of one method and scheme: counted here, since each request changes it twice, and read when
/// somebody asks.
#[derive(Default)]
struct Slot {
    active: AtomicI64,
    seen: AtomicBool,
}

type Slots = [[Slot; SCHEMES.len()]; METHODS.len()];

struct Instruments {
    duration: Histogram<f64>,
    slots: Arc<Slots>,
    _active: ObservableUpDownCounter<i64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let slots = Arc::<Slots>::default();
    Instruments {
        duration: meter()
            .f64_histogram("http.server.request.duration")
            .with_unit("s")
            .with_description("Duration of HTTP server requests.")
            // As the semantic conventions advise.
            .with_boundaries(vec![0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0])
            .build(),
        _active: active(slots.clone()),
        slots,
    }
});

fn active(slots: Arc<Slots>) -> ObservableUpDownCounter<i64> {
    meter()
        .i64_observable_up_down_counter("http.server.active_requests")
        .with_unit("{request}")
        .with_description("Number of active HTTP server requests.")
        .with_callback(move |counter| {
            for (method, slots) in METHODS.into_iter().zip(slots.iter()) {
                for (scheme, slot) in SCHEMES.into_iter().zip(slots) {
                    if slot.seen.load(Ordering::Relaxed) {
                        let attributes =
                            [KeyValue::new("http.request.method", method), KeyValue::new("url.scheme", scheme)];
                        counter.observe(slot.active.load(Ordering::Relaxed), &attributes);
                    }
                }
            }
        })
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_no_expressions() {
        for (pattern, expected) in [
            ("/a", "/a"),
            ("/a/{b}/{c}", "/a/{b}/{c}"),
            ("/a/{b:.*}", "/a/{b}"),
            ("/a/{b:[0-9]{2,3}}/{c:x:y}.yaml", "/a/{b}/{c}.yaml"),
        ] {
            assert_eq!(template(pattern.to_owned()), expected);
        }
    }
}
