//! Ends clients' tunnels in a cluster that has no Kilo.
//!
//! The gateway watches Kilo's peers and the cluster's pods. [`plan`] decides from them who is served and whom they may
//! reach; the [`keeper`] brings that into force, in the kernel's packet filter ([`nft`]) and in the tunnel
//! ([`backend`]). Nothing is let through that was not decided, also while no gateway runs.

mod announce;
pub mod backend;
pub mod cluster;
mod config;
mod endpoints;
mod gateway;
pub mod keeper;
mod metrics;
pub mod nft;
mod options;
pub mod plan;
mod reachable;
mod routes;

pub use announce::AnnounceError;
pub use config::{Config, WireGuard};
pub use endpoints::EndpointsError;
pub use gateway::{GatewayError, remove, run};
pub use options::{Command, Options};
