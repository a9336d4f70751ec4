//! W3C trace context (`traceparent`, `tracestate`) across HTTP requests.

use std::marker::PhantomData;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use opentelemetry::Context;

/// Calls `set` with the name and value of every header that an outgoing request needs, so that the
/// other side continues the trace of the current span.
pub fn inject(set: &mut impl FnMut(&str, &str)) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Headers(set));
}

/// The trace that an incoming request belongs to; `get` looks up a header. Missing or malformed
/// headers give an empty context.
pub fn extract<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Lookup(get, PhantomData))
}

/// Makes `span` continue the trace in `context`; to be called before the span is entered.
pub fn set_parent(span: &Span, context: Context) {
    if context.span().span_context().is_valid() {
        // It fails when nobody collects spans, and then there is nothing to do.
        let _ = span.set_parent(context);
    }
}

/// The lifetime is that of what is found.
struct Lookup<'a, F>(F, PhantomData<&'a str>);

impl<'a, F: Fn(&str) -> Option<&'a str>> Extractor for Lookup<'a, F> {
    fn get(&self, key: &str) -> Option<&str> {
        (self.0)(key)
    }

    fn keys(&self) -> Vec<&str> {
        // No propagator of ours looks for them.
        Vec::new()
    }
}

struct Headers<'a, F>(&'a mut F);

impl<F: FnMut(&str, &str)> Injector for Headers<'_, F> {
    fn set(&mut self, key: &str, value: String) {
        // An empty tracestate says nothing.
        if !value.is_empty() {
            (self.0)(key, &value);
        }
    }
}
