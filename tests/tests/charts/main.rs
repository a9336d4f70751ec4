//! What is shipped: the charts with the images, on a real Kubernetes. Run by `make releases`, and last by `make test`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod admission;
mod custom_resources;
mod database;
mod install;
mod schema;
mod uninstall;
mod upgrade;
