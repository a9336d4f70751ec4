//! The deployments' objects as this process last saw them, and waiting for one to change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt as _, pin_mut};
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use sinfonia_wire::DeploymentStatus;
use tokio::sync::watch;

use super::crd::CloudletDeployment;

/// One object as it was last seen; none if it is not there.
pub(super) type Seen = Option<Arc<CloudletDeployment>>;

/// A cache that is kept up to date by [`Watched::run`].
#[derive(Default)]
pub(super) struct Watched {
    objects: Mutex<HashMap<String, watch::Sender<Seen>>>,
    /// How many complete lists were asked for, the first one being asked for by `run`.
    asked: watch::Sender<u64>,
    /// The list that was complete last.
    listed: watch::Sender<u64>,
}

impl Watched {
    /// Keeps the cache up to date, for ever. While the API server is away the last state stays.
    pub(super) async fn run(&self, api: Api<CloudletDeployment>) {
        let mut failing = false;
        let mut asked = self.asked.subscribe();
        loop {
            let number = *asked.borrow_and_update() + 1;
            tokio::select! {
                () = self.follow(api.clone(), number, &mut failing) => {}
                // The sender lives as long as `self`.
                _ = asked.changed() => {}
            }
        }
    }

    async fn follow(&self, api: Api<CloudletDeployment>, number: u64, failing: &mut bool) {
        let events = watcher(api, watcher::Config::default()).default_backoff();
        pin_mut!(events);
        let mut listed = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed = Some(vec![]),
                Ok(watcher::Event::InitApply(object)) => {
                    if let Some(listed) = &mut listed {
                        listed.push(object);
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    self.replace(listed.take().unwrap_or_default());
                    self.listed.send_replace(number);
                }
                Ok(watcher::Event::Apply(object)) => self.set(object),
                Ok(watcher::Event::Delete(object)) => self.remove(&object.name_any()),
                Err(error) => {
                    if !std::mem::replace(failing, true) {
                        tracing::warn!(%error, "deployments cannot be watched; trying on");
                    }
                    continue;
                }
            }
            *failing = false;
        }
    }

    /// Waits for the first complete list.
    pub(super) async fn synced(&self) {
        self.complete(1).await;
    }

    /// Lists anew and waits for that: afterwards everything is seen that was written before.
    pub(super) async fn renew(&self) {
        self.asked.send_modify(|asked| *asked += 1);
        let number = *self.asked.borrow() + 1;
        self.complete(number).await;
    }

    async fn complete(&self, number: u64) {
        // The sender lives as long as `self`.
        let _ = self.listed.subscribe().wait_for(|listed| *listed >= number).await;
    }

    pub(super) fn get(&self, name: &str) -> Seen {
        self.objects().get(name).and_then(|sender| sender.borrow().clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<CloudletDeployment>> {
        self.objects().values().filter_map(|sender| sender.borrow().clone()).collect()
    }

    /// The state of each deployment.
    pub(super) fn states(&self) -> Vec<DeploymentStatus> {
        let state = |object: &CloudletDeployment| object.phase().map_or(DeploymentStatus::Initializing, Into::into);
        self.all().iter().map(|object| state(object)).collect()
    }

    /// How many objects are such.
    pub(super) fn count(&self, is_such: impl Fn(&CloudletDeployment) -> bool) -> u64 {
        self.all().iter().filter(|object| is_such(object)).count() as u64
    }

    /// The changes of one object, which need not be there yet.
    pub(super) fn subscribe(&self, name: &str) -> watch::Receiver<Seen> {
        self.objects().entry(name.to_owned()).or_default().subscribe()
    }

    fn replace(&self, listed: Vec<CloudletDeployment>) {
        {
            let mut objects = self.objects();
            let present: std::collections::HashSet<String> = listed.iter().map(kube::ResourceExt::name_any).collect();
            objects.retain(|name, sender| {
                let gone = !present.contains(name);
                if gone {
                    sender.send_replace(None);
                }
                !gone || sender.receiver_count() > 0
            });
        }
        for object in listed {
            self.set(object);
        }
    }

    fn set(&self, object: CloudletDeployment) {
        let name = object.name_any();
        self.objects().entry(name).or_default().send_replace(Some(Arc::new(object)));
    }

    fn remove(&self, name: &str) {
        let mut objects = self.objects();
        if let Some(sender) = objects.get(name) {
            sender.send_replace(None);
            if sender.receiver_count() == 0 {
                objects.remove(name);
            }
        }
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Seen>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
