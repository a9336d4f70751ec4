//! tier2 on a real Kubernetes under load, killed, without what it needs, and as it is observed. Run by `make failures`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod concurrency;
mod kills;
mod observe;
mod outages;
mod random_kills;
mod settled;
mod silence;
