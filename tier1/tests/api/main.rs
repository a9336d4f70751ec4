//! Tier1 as its callers see it: the real server on a free port, cloudlets as stubs on free ports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod command;
mod deploy;
mod failures;
mod harness;
mod input;
mod listing;
mod openapi;
mod placement;
mod replay;
mod reports;
mod startup;
