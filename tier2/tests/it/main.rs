//! tier2 from outside: its registry on a driver that only pretends, and its HTTP face on a free port.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../reference/compare.rs"]
mod compare;
mod fake;
mod guard;
mod http;
mod inputs;
mod model;
mod reference;
mod reports;
mod server;
