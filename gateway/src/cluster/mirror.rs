//! A copy in memory of all objects of a kind, kept up to date by a watch.

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use sinfonia_server::ReadinessTask;
use tokio::sync::Notify;

/// What is kept of each object, by namespace and name.
#[derive(Debug)]
pub struct Mirror<T> {
    inner: Mutex<Inner<T>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Inner<T> {
    objects: HashMap<(String, String), T>,
    /// Objects of a listing under way.
    listed: HashMap<(String, String), T>,
    is_complete: bool,
}

impl<T: PartialEq> Mirror<T> {
    /// An empty mirror that tells `changed` of each change.
    #[must_use]
    pub fn new(changed: Arc<Notify>) -> Arc<Self> {
        let inner = Inner { objects: HashMap::new(), listed: HashMap::new(), is_complete: false };
        Arc::new(Self { inner: Mutex::new(inner), changed })
    }

    /// What `look` makes of the objects; none until all have been listed.
    pub fn with<R>(&self, look: impl FnOnce(&HashMap<(String, String), T>) -> R) -> Option<R> {
        let inner = self.lock();
        inner.is_complete.then(|| look(&inner.objects))
    }

    fn apply<K: Resource>(&self, event: Event<K>, read: impl Fn(&K) -> Option<T>) {
        let mut inner = self.lock();
        let has_changed = match event {
            Event::Init => {
                inner.listed.clear();
                false
            }
            Event::InitApply(object) => {
                if let Some(kept) = read(&object) {
                    inner.listed.insert(key(&object), kept);
                }
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut inner.listed);
                let has_changed = !inner.is_complete || inner.objects != listed;
                inner.objects = listed;
                inner.is_complete = true;
                has_changed
            }
            Event::Apply(object) => match read(&object) {
                Some(kept) if inner.objects.get(&key(&object)) == Some(&kept) => false,
                Some(kept) => {
                    inner.objects.insert(key(&object), kept);
                    true
                }
                None => inner.objects.remove(&key(&object)).is_some(),
            },
            Event::Delete(object) => inner.objects.remove(&key(&object)).is_some(),
        };
        if has_changed {
            self.changed.notify_one();
        }
    }

    fn is_complete(&self) -> bool {
        self.lock().is_complete
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps `mirror` up to date for ever. `listed` is dropped once it is complete.
pub async fn follow<K, T>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    read: impl Fn(&K) -> Option<T>,
    mirror: Arc<Mirror<T>>,
    listed: ReadinessTask,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: PartialEq,
{
    let mut listed = Some(listed);
    let mut is_failing = false;
    let mut events = pin!(watch(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut is_failing) {
                    tracing::info!("{what} can be watched again");
                }
                mirror.apply(event, &read);
                if mirror.is_complete() {
                    listed = None;
                }
            }
            Err(error) if is_failing => tracing::debug!(%error, "{what} cannot be watched"),
            Err(error) => {
                is_failing = true;
                tracing::warn!(%error, "{what} cannot be watched; what is known of them stays in force, and it is tried again");
            }
        }
    }
    drop(listed);
}

fn key(object: &impl Resource) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, value: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"value": value}})).unwrap()
    }

    fn value(object: &ConfigMap) -> Option<String> {
        object.data.as_ref()?.get("value").filter(|value| !value.is_empty()).cloned()
    }

    fn values(mirror: &Mirror<String>) -> Option<String> {
        mirror.with(|objects| {
            let mut values: Vec<_> = objects.values().cloned().collect();
            values.sort();
            values.concat()
        })
    }

    #[test]
    fn a_listing_replaces_everything_at_its_end() {
        let mirror = Mirror::new(Arc::default());
        let apply = |event| mirror.apply(event, value);
        apply(Event::Init);
        apply(Event::InitApply(object("a", "1")));
        assert_eq!(values(&mirror), None, "a part of the list is not taken for all");
        apply(Event::InitDone);
        apply(Event::Apply(object("b", "2")));
        assert_eq!(values(&mirror).unwrap(), "12");
        apply(Event::Init);
        apply(Event::InitApply(object("c", "3")));
        assert_eq!(values(&mirror).unwrap(), "12", "the old ones stay until then");
        apply(Event::InitDone);
        assert_eq!(values(&mirror).unwrap(), "3");
        apply(Event::Apply(object("c", "")));
        apply(Event::Delete(object("d", "4")));
        assert_eq!(values(&mirror).unwrap(), "", "objects that mean nothing any more are not kept");
    }

    #[tokio::test]
    async fn only_what_matters_is_a_change() {
        let changed: Arc<Notify> = Arc::default();
        let mirror = Mirror::new(changed.clone());
        mirror.apply::<ConfigMap>(Event::Init, value);
        mirror.apply::<ConfigMap>(Event::InitDone, value);
        changed.notified().await;
        mirror.apply(Event::Apply(object("a", "")), value);
        let quiet = std::time::Duration::ZERO;
        assert!(tokio::time::timeout(quiet, changed.notified()).await.is_err());
        mirror.apply(Event::Apply(object("a", "1")), value);
        changed.notified().await;
    }
}
