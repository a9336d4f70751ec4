//! Decisions without I/O: what a cloudlet is, which ones suit a client, and in which order they are asked.

pub mod addresses;
pub mod bounds;
pub mod cloudlet;
pub mod gather;
pub mod geo;
pub mod holders;
pub mod interleave;
pub(crate) mod kd;
pub mod load;
pub mod matching;
pub(crate) mod merge;
pub mod networks;
pub mod setbacks;
pub mod snapshot;

pub use cloudlet::{Cloudlet, Origin, Registration};
pub use holders::Holders;
pub use load::Sent;
pub use matching::{Chain, Client, Inquiry, MatcherKind};
pub use setbacks::Setbacks;
pub use snapshot::Snapshot;
