//! One cloudlet: deploys backends and ends their clients' tunnels.
//!
//! `routes` speak HTTP, [`service`] knows what a request means, [`registry`] holds the deployments and moves them
//! through their [`lifecycle`], a [`driver`] makes and unmakes what they consist of. Everything that decides
//! (lifecycle, addresses, DNS answers) is plain code without I/O.
//!
//! A backend that exits while its deployment is in use is started again in a fresh namespace, under the same name and
//! address, after 0, 1, 2, 4 and 8 s; a request meanwhile waits. A fifth restart within a minute of being ready is the
//! last: then the deployment is removed and the next request makes a new one.

pub mod addresses;
mod admin;
pub mod clock;
pub mod config;
pub mod deployment;
pub mod deployments;
pub mod dns;
pub mod driver;
mod fault;
pub mod kubernetes;
pub mod lifecycle;
mod metrics;
mod names;
mod options;
pub mod registry;
mod report_fields;
pub mod reports;
mod resources;
mod routes;
pub mod service;
pub mod state;
mod tier2;
mod zeroconf;

pub use config::{Config, DriverConfig};
pub use options::{Command, Options, OptionsError};
pub use report_fields::{ReportFields, ReportOptions};
pub use tier2::{StartError, Tier2, start, start_with};
