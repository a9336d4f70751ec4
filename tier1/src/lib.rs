//! Tier1 of Sinfonia: knows cloudlets and finds those that suit a client.
//!
//! `routes` turn requests into questions to `domain`, which decides on what `store` and `geoip` know; `deploy` and
//! `outgoing` act on the decision.

mod access;
pub mod check;
mod cloudlets;
pub mod config;
mod deploy;
pub mod domain;
mod geoip;
mod metrics;
mod outgoing;
mod resolve;
mod routes;
mod server;
mod service;
mod store;
pub mod token_command;

pub use access::{Scope, TokensFileError};
pub use cloudlets::CloudletsError;
pub use config::Config;
pub use geoip::GeoIpError;
pub use outgoing::Limits;
pub use routes::{document as openapi_document, known_only};
pub use server::{Running, StartError, Tier1, run, start};
pub use store::{DatabaseConfig, DatabaseError, DatabaseUrl, DatabaseUrls, OptionsError};
