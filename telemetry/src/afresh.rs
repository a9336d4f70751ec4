//! Filters that decide anew for every event.
//!
//! Filters of single layers keep their last decision for the event that follows it. Whoever only asks whether an event
//! would be logged, as `sqlx` does, leaves a decision behind, and the next event for which nobody needs to ask, because
//! the answer is always yes, would be dropped by it.

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;

/// To be added last: lets nothing be decided once and for all.
pub(crate) struct Afresh;

impl<S: Subscriber> Layer<S> for Afresh {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    /// What is too detailed for all others is so for this one too: without a hint, each `trace!` of any library would
    /// be asked about.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }
}

#[cfg(test)]
mod tests {
    use super::Afresh;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tracing::level_filters::LevelFilter;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};
    use tracing_subscriber::{Layer, registry};

    struct Count(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_question_does_not_cost_the_next_event() {
        let count = Arc::<AtomicUsize>::default();
        let filter =
            || Targets::new().with_target("sinfonia", LevelFilter::INFO).with_target("other", LevelFilter::WARN);
        let first = Count(count.clone()).with_filter(filter());
        let second = Count(count.clone()).with_filter(filter());
        tracing::subscriber::with_default(registry().with(first).with(second).with(Afresh), || {
            for _ in 0..3 {
                // Whatever the answer is.
                let _ = tracing::enabled!(target: "other", Level::INFO);
                tracing::info!(target: "sinfonia", "seen");
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 6);
    }
}
