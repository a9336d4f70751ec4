//! tier2 on a real Kubernetes, with the rights it has in production and clients without any. Run by `make e2e`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod activity;
mod api;
mod charts;
#[path = "../../../tier2/tests/reference/compare.rs"]
mod compare;
mod http;
mod isolation;
mod listing;
mod page;
mod replay;
mod takeover;
