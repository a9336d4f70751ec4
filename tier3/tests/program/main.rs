//! Runs the program itself: against stubs, and through real tunnels to a cloudlet made of the tunnel crate alone.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod application;
mod errors;
mod library;
mod support;
mod terminal;
mod tokens;
