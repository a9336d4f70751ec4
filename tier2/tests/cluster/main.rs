//! Helm and workloads on a real cluster, whose kubeconfig is named by KUBECONFIG.
//!
//! The charts are those of tests/charts; pods run the image localhost/sinfonia/toolbox:0.1.0.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod isolation;
mod life;
mod registry;
mod world;
