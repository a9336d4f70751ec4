//! Who is known, in memory: the snapshot that matching uses, and changes that it does not have yet.
//!
//! Reports that change nothing but load and time touch one cloudlet. What changes the membership is gathered, and one
//! new snapshot off the request path serves all who wait for it. [`Store`] is what takes reports: into this memory
//! alone, or into a database that the memory follows.

mod courier;
mod database;
mod durable;
mod follower;
mod forget;
mod history;
mod holdings;
mod listener;
mod migrate;
mod options;
mod registry;
mod row;
mod samples;
mod silence;
mod tokens;
mod unnamed;
mod upkeep;
mod writer;

pub use database::DatabaseError;
#[cfg(test)]
pub(crate) use durable::SAVING;
pub(crate) use durable::{RegisterError, Running, Store, UNAVAILABLE};
pub(crate) use forget::ForgetError;
pub(crate) use holdings::Holdings;
pub use options::{DatabaseConfig, DatabaseUrl, DatabaseUrls, OptionsError};
pub(crate) use registry::Registry;
pub(crate) use samples::{HistoryError, Span};
pub(crate) use tokens::{Act, Listed, TokenStore};
