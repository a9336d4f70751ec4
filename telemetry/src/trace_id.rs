//! The trace id in log lines.

use std::marker::PhantomData;
use std::sync::OnceLock;

use opentelemetry::trace::TraceContextExt as _;
use tracing::dispatcher::WeakDispatch;
use tracing::span::Id;
use tracing::{Dispatch, Event, Subscriber};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::fields::AddField;

/// Adds `trace_id` to the outermost span of whatever is logged, as 32 hex digits: only then, because most spans see no
/// log line. To be called before the layer that writes the line, and keeps the fields of spans as `N`.
pub(crate) struct TraceId<N> {
    dispatch: OnceLock<WeakDispatch>,
    fields: PhantomData<fn(N)>,
}

impl<N> TraceId<N> {
    pub(crate) fn new() -> Self {
        Self { dispatch: OnceLock::new(), fields: PhantomData }
    }

    fn of(&self, span: &Id) -> Option<String> {
        let context = get_otel_context(span, &self.dispatch.get()?.upgrade()?)?;
        let span = context.span();
        let span_context = span.span_context();
        span_context.is_valid().then(|| span_context.trace_id().to_string())
    }
}

/// Marks a span that has been asked for its trace id.
struct Asked;

impl<S, N> Layer<S> for TraceId<N>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: AddField + 'static,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        // There is only one.
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(root) = context.event_scope(event).and_then(Iterator::last) else {
            return;
        };
        if root.extensions_mut().replace(Asked).is_some() {
            return;
        }
        // Not while the extensions are held, among which it is looked for.
        let Some(id) = self.of(&root.id()) else {
            return;
        };
        if let Some(fields) = root.extensions_mut().get_mut::<FormattedFields<N>>() {
            N::add_field(fields, "trace_id", &id);
        }
    }
}
