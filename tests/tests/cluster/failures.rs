//! tier2 on a real Kubernetes under load, killed, and without what it needs. Run by `make failures`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod concurrency;
mod kills;
mod outages;
mod random_kills;
mod settled;
mod silence;
