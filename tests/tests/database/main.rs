//! Tier1 and a real Postgres: what is acknowledged stays, whatever happens to either, and replicas agree.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod balancer;
mod cloudlets;
mod history;
mod holders;
mod kills;
mod migration;
mod openapi;
mod outages;
mod pgbouncer;
mod pooler;
mod replicas;
mod rolling;
mod setup;
mod tokens;
