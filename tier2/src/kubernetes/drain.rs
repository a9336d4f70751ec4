//! Whether this cloudlet is being drained: an annotation of the leader's lease, so that all replicas know, and people
//! can say it with kubectl.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    api::{ApiError, limited},
    leader::LEASE,
};

/// Annotation of the Lease; `true` drains.
const ANNOTATION: &str = "findcloudlet.org/drain";

/// How long to wait until this replica has seen what it has written itself.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Follows the annotation.
pub(super) struct Drain {
    api: Api<Lease>,
    draining: watch::Sender<bool>,
}

impl Drain {
    pub(super) fn new(api: Api<Lease>) -> Self {
        Self { api, draining: watch::Sender::new(false) }
    }

    /// Follows the annotation, for ever.
    pub(super) async fn run(&self) {
        let one = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
        let mut leases = Box::pin(watcher(self.api.clone(), one).default_backoff().applied_objects());
        while let Some(lease) = leases.next().await {
            // What cannot be read stays as it was; the watcher tries again.
            let Ok(lease) = lease else { continue };
            let annotation = lease.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
            let draining = annotation.is_some_and(|value| value == "true");
            if self.draining.send_replace(draining) != draining {
                tracing::info!(draining, "drain");
            }
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Writes the annotation.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub(super) async fn set(&self, draining: bool) -> Result<(), ApiError> {
        let value = draining.then_some("true");
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { ANNOTATION: value } } }));
        limited("set the drain annotation", self.api.patch(LEASE, &PatchParams::default(), &patch)).await?;
        let mut seen = self.draining.subscribe();
        // If the watch is behind it comes a little later.
        let _ = tokio::time::timeout(SEEN_WITHIN, seen.wait_for(|seen| *seen == draining)).await;
        Ok(())
    }
}
