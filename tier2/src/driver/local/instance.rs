//! One backend's namespace, and what serves it from outside.

use std::sync::{Arc, Mutex, PoisonError};

use sinfonia_tunnel::{Device, LinkId, Namespace};
use tokio::task::JoinSet;

/// A namespace with what belongs to it. Dropping it ends all of it but the device's link.
pub(super) struct Instance {
    pub(super) namespace: Arc<Namespace>,
    link: Mutex<Option<LinkId>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Instance {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self { namespace: Arc::new(namespace), link: Mutex::default(), tasks: Mutex::default() }
    }

    /// A task that ends with the instance.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }

    /// The device's link that leads here, closed with the instance.
    pub(super) fn set_link(&self, link: LinkId) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// Ends everything and returns when the namespace is gone.
    pub(super) async fn close(self: Arc<Self>, device: &Device) {
        if let Some(link) = self.link.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The peer goes with its link.
            device.remove_link(link);
        }
        let Some(this) = Arc::into_inner(self) else { return };
        let mut tasks = this.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        tasks.shutdown().await;
        if let Some(namespace) = Arc::into_inner(this.namespace) {
            namespace.close().await;
        }
    }
}
