//! The harness of the end-to-end tests: real programs in a world of their own, and a wire between them to look at.
#![expect(clippy::unwrap_used, reason = "a harness that cannot work fails its test")]

pub mod cluster;
mod collector;
mod documented;
mod jaeger;
mod leftovers;
mod postgres;
mod process;
mod prometheus;
mod proxy;
pub mod queries;
mod relay;
pub mod releases;
mod world;

pub use collector::{Collector, SeenMetric, count_spans};
pub use documented::{Documented, MetricRow, PlainRow, SpanRow};
pub use jaeger::{Jaeger, JaegerSpan, Trace};
pub use leftovers::{children, processes_in};
pub use postgres::{Postgres, database_url};
pub use process::{Finished, Running, eventually};
pub use prometheus::{Prometheus, RULES};
pub use proxy::Proxy;
pub use relay::Relay;
pub use world::{World, free_port, free_udp_port, program};
