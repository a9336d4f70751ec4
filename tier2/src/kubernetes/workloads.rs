//! Whether a release's workloads are available, and if they never will be, why.
//!
//! [`assess`] decides from a [`Snapshot`] of the namespace; [`await_ready`] watches the namespace and asks it at every
//! change. Available means what `kubectl rollout status` means.

mod assess;
mod controllers;
mod kinds;
mod logs;
mod objects;
mod pods;
mod reason;
#[cfg(test)]
mod tests;
mod watch;

pub use assess::{Assessment, assess};
pub use kinds::{Kind, Kinds};
pub use logs::last_log_lines;
pub use objects::Snapshot;
pub use reason::{Culprit, NotReady, Reason};
pub use watch::await_ready;
