//! Everything together, as an ordinary user: client, tier1, cloudlet, backend, and real packets between them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod addresses;
mod bad_input;
mod cleanup;
mod cloudlets;
mod exit_codes;
mod observe;
mod page;
mod reference_client;
mod restart;
mod secrets;
mod setup;
mod telemetry;
mod terminal;
mod tls;
mod tokens;
mod trace;
