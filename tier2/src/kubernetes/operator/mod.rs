//! The operator: brings the cluster to what the deployments' objects say. It runs in the replica that leads.
//!
//! Each object is looked at when it changes, when its namespace or peer changes, and at every tick. What
//! [`decide`](super::decide) says is then carried out; every step can be repeated, so it does not matter where an
//! earlier operator stopped.

mod adopt;
mod allocate;
mod backoff;
mod ending;
mod follow;
mod install;
mod remove;
mod retry;
pub(super) mod status;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    Stream, StreamExt as _,
    future::{BoxFuture, FutureExt as _, join},
    stream,
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, ResourceExt as _,
    api::ApiResource,
    core::DynamicObject,
    runtime::{
        Controller, WatchStreamExt as _,
        controller::Action,
        events::{Event as Note, EventType, Recorder, Reporter},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use sinfonia_recipes::Repository;
use sinfonia_wire::DeploymentName;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::{
    activity::{ActivitySnapshot, ActivityWatch},
    admission::Admission,
    api::ApiError,
    crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
    decide::{Decision, FAILURE_KEPT, Observed, Work, decide},
    ends::Ends,
    failure::Failure,
    helm::{Helm, access::ApiServer},
    networks::Networks,
    objects::{self, MANAGER},
    options::KubernetesOptions,
    watched::Watched,
};
use crate::{addresses::AddressPool, lifecycle::Policy};
use allocate::Reserved;
use backoff::{Backoff, RETRY};
use status::Unseen;

/// What an operator works with, whoever leads.
pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) server: ApiServer,
    pub(super) watched: Arc<Watched>,
    pub(super) recipes: Arc<Repository>,
    pub(super) ends: Ends,
    pub(super) helm: Helm,
    pub(super) admission: Admission,
    pub(super) policy: Policy,
    pub(super) interval: Duration,
    pub(super) pool: AddressPool,
    pub(super) options: KubernetesOptions,
    /// The ServiceAccount that tier2 is, as namespace and name.
    pub(super) own_account: Option<(String, String)>,
    /// How many namespaces do not end, while this replica leads.
    pub(super) endless: Arc<AtomicU64>,
}

/// One term of leadership.
struct Operator {
    parts: Arc<Parts>,
    api: Api<CloudletDeployment>,
    peers: Store<DynamicObject>,
    namespaces: Store<DynamicObject>,
    activity: Mutex<ActivitySnapshot>,
    /// What policies let in and keep off, as last seen.
    networks: Mutex<Option<Networks>>,
    reserved: Mutex<Reserved>,
    unseen: Unseen,
    backoff: Backoff,
    endings: ending::Said,
    installs: Semaphore,
    recorder: Recorder,
}

/// Why an object was not brought to where it should be; it is tried again.
#[derive(Debug, Error)]
enum OperatorError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("{0}")]
    Later(Failure),
}

impl OperatorError {
    fn later(code: &'static str, reason: impl Into<String>) -> Self {
        Self::Later(Failure::new(code, reason))
    }

    /// Somebody else has changed the object.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_conflict())
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Api(error) => error.into(),
            OperatorError::Later(failure) => failure,
        }
    }
}

/// Works until it is dropped. `activity` is asked once at every tick.
pub(super) async fn operate(parts: Arc<Parts>, activity: Arc<tokio::sync::Mutex<ActivityWatch>>) {
    let (peer, namespace) = (objects::peer_kind(), objects::namespace_kind());
    let ours = watcher::Config::default().labels(&objects::selector());
    // All peers, because foreign ones have addresses too.
    let (peers, follow_peers) = follow(&parts.client, &peer, watcher::Config::default());
    let (namespaces, follow_namespaces) = follow(&parts.client, &namespace, ours.clone());
    let reporter = Reporter { controller: MANAGER.into(), instance: None };
    let operator = Arc::new(Operator {
        api: Api::all(parts.client.clone()),
        peers,
        namespaces,
        activity: Mutex::default(),
        networks: Mutex::default(),
        reserved: Mutex::default(),
        unseen: Unseen::default(),
        backoff: Backoff::default(),
        endings: ending::Said::default(),
        installs: Semaphore::new(parts.options.concurrent_installs.into()),
        recorder: Recorder::new(parts.client.clone(), reporter),
        parts,
    });
    let working = async {
        // What this replica saw as a follower may be old, and what it gives away must be free.
        operator.parts.watched.renew().await;
        let synced =
            futures_util::future::join(operator.peers.wait_until_ready(), operator.namespaces.wait_until_ready());
        // The writers live as long as the followers below.
        let _ = synced.await;
        operator.adopt_peers().await;
        operator.control(&peer, &namespace, ours, activity).await;
    };
    tokio::select! {
        () = follow_peers => {}
        () = follow_namespaces => {}
        () = working => {}
    }
}

fn follow(
    client: &Client,
    kind: &ApiResource,
    config: watcher::Config,
) -> (Store<DynamicObject>, impl Future<Output = ()> + use<>) {
    let writer = reflector::store::Writer::new(kind.clone());
    let store = writer.as_reader();
    let events = watcher(Api::<DynamicObject>::all_with(client.clone(), kind), config).default_backoff();
    let follow = reflector::reflector(writer, events).for_each(|_| std::future::ready(()));
    (store, follow)
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.parts.endless.store(0, Ordering::Relaxed);
    }
}

impl Operator {
    async fn control(
        self: &Arc<Self>,
        peer: &ApiResource,
        namespace: &ApiResource,
        ours: watcher::Config,
        activity: Arc<tokio::sync::Mutex<ActivityWatch>>,
    ) {
        let all = |kind: &ApiResource| Api::<DynamicObject>::all_with(self.parts.client.clone(), kind);
        // A queue of its own limits installations; an object that waits there must not hold up others.
        let unlimited = kube::runtime::controller::Config::default().concurrency(0);
        Controller::new(self.api.clone(), watcher::Config::default())
            .with_config(unlimited)
            .owns_with(all(peer), peer.clone(), ours.clone())
            .owns_with(all(namespace), namespace.clone(), ours)
            .reconcile_all_on(self.clone().ticks(activity))
            .run(|object, operator| async move { operator.reconcile(&object).await }.boxed(), retry, self.clone())
            .for_each(|_| std::future::ready(()))
            .await;
    }

    /// Once per interval, after activity and the cluster's networks were looked at.
    fn ticks(self: Arc<Self>, activity: Arc<tokio::sync::Mutex<ActivityWatch>>) -> impl Stream<Item = ()> {
        let mut timer = tokio::time::interval(self.parts.interval);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        stream::unfold((timer, activity), move |(mut timer, activity)| {
            let operator = self.clone();
            async move {
                timer.tick().await;
                let seen = activity.lock().await.look(OffsetDateTime::now_utc()).await;
                *operator.activity.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                if let Ok(end) = operator.parts.ends.current().await {
                    operator.note_networks(end.networks);
                }
                let is_there = |name: &str| operator.parts.watched.get(name).is_some();
                operator.backoff.retain(is_there);
                operator.unseen.retain(is_there);
                operator.look_after_endings();
                Some(((), (timer, activity)))
            }
        })
    }

    async fn reconcile(&self, object: &CloudletDeployment) -> Result<Action, OperatorError> {
        if object.is_leaving() {
            return Ok(Action::await_change());
        }
        if self.unseen.outdates(object) {
            return Ok(Action::requeue(RETRY));
        }
        let now = OffsetDateTime::now_utc();
        let activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner).of(&object.spec.key);
        let observed = Observed { object, activity, intact: self.is_intact(object).await };
        let decision = decide(&observed, &self.parts.policy, self.parts.interval, now);
        if let Some(left) = self.backoff.left(object, decision.work) {
            return Ok(Action::requeue(left));
        }
        let result = tokio::select! {
            result = self.act(object, &decision, now) => result,
            // What belongs to it follows by itself.
            () = self.ended(object) => Ok(()),
        };
        match result {
            Ok(()) => {
                self.backoff.forget(object);
                Ok(next_look(object, &decision, self.parts.interval))
            }
            Err(error) if error.is_conflict() => Err(error),
            Err(error) => self.put_off(object, &decision, error).await,
        }
    }

    fn act<'a>(
        &'a self,
        object: &'a CloudletDeployment,
        decision: &'a Decision,
        now: OffsetDateTime,
    ) -> BoxFuture<'a, Result<(), OperatorError>> {
        match decision.work {
            Work::Nothing => self.rest(object, decision).boxed(),
            Work::Install { afresh } => self.install(object, decision, afresh, now).boxed(),
            Work::Withdraw => self.withdraw(object, decision).boxed(),
            Work::CleanUp => self.clean_up(object).boxed(),
            Work::Remove => self.remove(object).boxed(),
        }
    }

    async fn rest(&self, object: &CloudletDeployment, decision: &Decision) -> Result<(), OperatorError> {
        self.note_lease(object, decision).await?;
        self.follow_networks(object).await
    }

    /// Writes down when the lease ends, but not for every small change: people read it, the operator does not.
    async fn note_lease(&self, object: &CloudletDeployment, decision: &Decision) -> Result<(), OperatorError> {
        let Some(status) = object.status.as_ref().filter(|status| status.phase == Some(Phase::Deployed)) else {
            return Ok(());
        };
        let activity = decision.lease_end - self.parts.policy.lease;
        let last_activity = (activity > object.spec.requested_at).then_some(activity).max(status.last_activity);
        let expires_at = Some(status.ends_at.map_or(decision.lease_end, |end| end.min(decision.lease_end)));
        let moved = match (status.expires_at, expires_at) {
            (Some(before), Some(now)) => (now - before).unsigned_abs() >= self.parts.policy.lease / 8,
            _ => true,
        };
        if moved {
            let status = CloudletDeploymentStatus { last_activity, expires_at, ..status.clone() };
            self.write_status(object, &status).await?;
        }
        Ok(())
    }

    /// Whether namespace and peer are there; those of an object without a name are not missed.
    async fn is_intact(&self, object: &CloudletDeployment) -> bool {
        let Some(name) = object.deployment_name() else { return true };
        let namespace = ObjectRef::new_with(name.as_str(), objects::namespace_kind());
        let lives = |object: Arc<DynamicObject>| object.metadata.deletion_timestamp.is_none();
        let were_seen = self.namespaces.get(&namespace).is_some_and(lives) && self.peer(name).is_some();
        if were_seen || object.phase() != Some(Phase::Deployed) {
            return were_seen;
        }
        // What was seen may be older than the object, each being watched by itself.
        let (namespace, peer) = join(self.owns_namespace(object, name), self.owns_peer(object, name)).await;
        let is_missing = |is_there| matches!(is_there, Ok(false));
        !is_missing(namespace) && !is_missing(peer)
    }

    /// The peer of a deployment, as last seen.
    fn peer(&self, name: &DeploymentName) -> Option<Arc<DynamicObject>> {
        self.peers.get(&ObjectRef::new_with(name.as_str(), objects::peer_kind()))
    }

    /// Whether something with the deployment's name is there that stays unless somebody removes it.
    fn has_belongings(&self, object: &CloudletDeployment) -> bool {
        let Some(name) = object.deployment_name() else { return false };
        let mut around = self.peers.state().into_iter().chain(self.namespaces.state());
        around.any(|found| found.name_any() == name.as_str() && found.metadata.deletion_timestamp.is_none())
    }

    /// Waits until this very object is gone, or its deletion was asked for.
    async fn ended(&self, object: &CloudletDeployment) {
        let uid = object.uid();
        let mut seen = self.parts.watched.subscribe(&object.name_any());
        let mut known = false;
        loop {
            let over = match seen.borrow_and_update().as_ref() {
                // Not seen yet, if the cache is behind.
                None => known,
                Some(now) => {
                    known |= now.uid() == uid;
                    now.is_leaving() || (known && now.uid() != uid)
                }
            };
            if over || seen.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells the cluster's operators what happened; nobody waits for it.
    fn tell(&self, object: &CloudletDeployment, kind: EventType, reason: &str, note: impl Into<String>) {
        self.tell_of(kube::Resource::object_ref(object, &()), kind, reason, note);
    }

    fn tell_of(&self, reference: ObjectReference, kind: EventType, reason: &str, note: impl Into<String>) {
        let recorder = self.recorder.clone();
        // Longer notes are refused by the API server.
        let note: String = note.into().chars().take(1000).collect();
        let note =
            Note { type_: kind, reason: reason.into(), note: Some(note), action: reason.into(), secondary: None };
        tokio::spawn(async move {
            let published = super::api::limited("record an event", recorder.publish(&note, &reference)).await;
            if let Err(error) = published {
                tracing::debug!(%error, "event not recorded");
            }
        });
    }

    /// Names of deployments that are taken by something in the cluster.
    fn names_taken(&self) -> HashSet<String> {
        let objects = self.peers.state().into_iter().chain(self.namespaces.state());
        objects.map(|object| object.name_any()).collect()
    }
}

/// When to look again if nothing happens; the tick comes anyway.
fn next_look(object: &CloudletDeployment, decision: &Decision, interval: Duration) -> Action {
    let ends_at = object.status.as_ref().and_then(|status| status.ends_at);
    match (decision.phase, decision.work) {
        (Phase::Expired, Work::CleanUp) => Action::requeue(FAILURE_KEPT),
        (Phase::Expiring | Phase::Withdrawn, _) => Action::requeue(interval),
        (Phase::Deployed, _) => match ends_at.map(|end| end - OffsetDateTime::now_utc()) {
            Some(left) => Action::requeue(left.try_into().unwrap_or(Duration::ZERO).max(RETRY)),
            None => Action::await_change(),
        },
        _ => Action::await_change(),
    }
}

fn retry(object: Arc<CloudletDeployment>, error: &OperatorError, _: Arc<Operator>) -> Action {
    tracing::debug!(object = object.name_any(), %error, "to be looked at again");
    // After a conflict it has changed, so it comes again by itself; this is for the case that it does not.
    Action::requeue(RETRY)
}
