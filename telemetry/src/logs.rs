//! Log lines on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::registry::LookupSpan;

use crate::Verbosity;
use crate::fields::JsonObject;
use crate::trace_id::TraceId;

/// The layer that writes log lines for `verbosity`.
pub(crate) fn layer<S>(verbosity: Verbosity) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_writer(stderr).with_ansi(colour);
    let lines = match verbosity {
        Verbosity::Quiet => lines.without_time().with_target(false).boxed(),
        Verbosity::Normal if !terminal => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(true);
            TraceId::<JsonObject>::new().and_then(lines.fmt_fields(JsonObject)).boxed()
        }
        Verbosity::Normal | Verbosity::Debug => TraceId::<DefaultFields>::new().and_then(lines).boxed(),
    };
    lines.with_filter(filter(verbosity)).boxed()
}

fn filter(verbosity: Verbosity) -> EnvFilter {
    // Libraries speak up only when something is wrong. What the OpenTelemetry SDK says about a
    // collector that is away would stand in the middle of the user's own terminal, and boringtun warns
    // of each handshake that it tries again or gives up.
    let default = match verbosity {
        Verbosity::Quiet => "warn,opentelemetry=off,boringtun=off",
        Verbosity::Normal => "warn,boringtun=off,sinfonia=info",
        Verbosity::Debug => "info,opentelemetry=warn,sinfonia=debug",
    };
    match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) if !directives.is_empty() => EnvFilter::builder().parse_lossy(directives),
        _ => EnvFilter::new(default),
    }
}
