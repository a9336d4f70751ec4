//! Runs an application beside its backend on a nearby cloudlet.
//!
//! ```no_run
//! use sinfonia_tier3::{ApplicationId, Command, Tier3};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Tier3::builder("http://127.0.0.1:5000".parse()?, ApplicationId::HELLOWORLD).build()?;
//! let tunnel = client.connect().await?;
//! let command =
//!     Command { program: "curl".into(), args: vec!["http://helloworld/".into()], ..Command::default() };
//! let exit = tunnel.run(command).await?;
//! tunnel.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! The same in steps: [`Tier3::discover`] lists cloudlets, [`Tier3::deploy`] asks for backends, and
//! [`Deployments::connect`] makes the tunnel. [`Tunnel::namespace`] is where a caller opens sockets of its own.
//! A program that uses this calls [`helper::run_if_invoked`] first thing in `main`.
//! All futures are `Send` and want a tokio runtime with I/O and time.

mod answer;
mod client;
mod error;
mod http;
mod keys;
mod link;
mod names;
pub mod nearby;
mod session;

pub use client::{HANDSHAKE_LIMIT, MAX_RESULTS, Tier3, Tier3Builder};
pub use error::{Error, TunnelError, TunnelErrors};
pub use keys::{ClaimedKey, KeyCache};
pub use session::{Deploying, Deployments, Lease, PROMPT, Tunnel};
pub use sinfonia_credentials::BearerToken;
pub use sinfonia_tunnel::{Command, Config, Exit, Namespace, NamespaceError, helper};
pub use sinfonia_wire::ApplicationId;

/// The example in the README must compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
