//! The images of `make images`: what is in them, and the client in a container. Run by `make e2e`, as root, where containers
//! of the Docker engine reach the test, and in a PID namespace that ends with it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod archive;
mod client;
mod contents;
mod engine;
