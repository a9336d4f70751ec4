//! Follows a namespace until its workloads are available.

use std::{collections::BTreeMap, fmt::Debug, hash::Hash, ops::ControlFlow, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{Event, Pod},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use sinfonia_wire::DeploymentName;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, info_span};

use super::{
    assess::{Assessment, assess},
    kinds::{Kind, Kinds},
    logs,
    objects::Snapshot,
    reason::{NotReady, Reason},
};
use crate::{deployment::Progress, kubernetes::text};

/// How long containers without a readiness probe have to run. The kubelet notices within a second that one ended, and
/// tells a little later.
const PROOF: Duration = Duration::from_secs(3);

/// The same for containers that have ended before: they are about to do so again.
const PROOF_AFTER_RESTARTS: Duration = Duration::from_secs(10);

/// The longest quotation of the API server, characters.
const ERROR_LIMIT: usize = 200;

/// Waits until every workload in the namespace is available, or it is certain that one never will be.
///
/// An API server that is away for a while is waited for too.
///
/// # Errors
/// See [`NotReady`].
pub async fn await_ready(
    client: &Client,
    namespace: &DeploymentName,
    kinds: &Kinds,
    progress: &Progress,
    deadline: Instant,
) -> Result<(), NotReady> {
    let span = info_span!("wait for workloads", k8s.namespace.name = %namespace);
    if kinds.is_empty() {
        return Ok(());
    }
    let follower = Follower { changes: changes(client, namespace, kinds), watched: Watched::new(kinds) };
    match follower.follow(progress, deadline).instrument(span).await {
        Err(NotReady::Failed(reason)) => {
            let output = match reason.culprit() {
                Some(culprit) => logs::last_words(client, namespace, culprit).await,
                None => Vec::new(),
            };
            Err(NotReady::Failed(reason.with_output(&output)))
        }
        result => result,
    }
}

/// Waiting, with what is known so far.
pub(super) struct Follower {
    pub(super) changes: SelectAll<BoxStream<'static, Change>>,
    pub(super) watched: Watched,
}

/// What becomes final when it lasts.
enum Lasting {
    Doubt(Reason),
    Unproven { restarts: i32 },
}

impl Lasting {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            // Another word of the same cause is the same.
            (Self::Doubt(one), Self::Doubt(other)) => one.code() == other.code(),
            (Self::Unproven { restarts: one }, Self::Unproven { restarts: other }) => one == other,
            _ => false,
        }
    }

    const fn time(&self) -> Duration {
        match self {
            Self::Doubt(reason) => reason.grace(),
            Self::Unproven { restarts: 0 } => PROOF,
            Self::Unproven { .. } => PROOF_AFTER_RESTARTS,
        }
    }
}

impl Follower {
    pub(super) async fn follow(mut self, progress: &Progress, deadline: Instant) -> Result<(), NotReady> {
        let started = Instant::now();
        progress.step("waiting for the workloads");
        let mut lasting: Option<(Lasting, Instant)> = None;
        loop {
            let wake = lasting.as_ref().map_or(deadline, |(_, end)| deadline.min(*end));
            tokio::select! {
                biased;
                change = self.changes.next() => {
                    if let Some(Change::Trouble { words, blind }) = &change {
                        progress.step(format!("waiting for the cluster's API server ({words})"));
                        // Nothing lasts while nobody looks.
                        if let (Some((lasting, end)), Some(blind)) = (&mut lasting, blind) {
                            *end = (*end).max(Instant::now() + *blind + lasting.time());
                        }
                        continue;
                    }
                    self.apply(change);
                }
                () = sleep_until(wake) => {
                    let late = || NotReady::Deadline { seconds: (deadline - started).as_secs(), waiting: progress.to_string() };
                    return match lasting {
                        Some((Lasting::Unproven { .. }, _)) => Ok(()),
                        Some((Lasting::Doubt(reason), end)) if end <= deadline => Err(reason.into()),
                        _ => Err(late()),
                    };
                }
            }
            if !self.watched.is_complete() {
                continue;
            }
            let now = match judge(assess(&self.watched.snapshot), progress) {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(now) => now,
            };
            lasting = now.map(|now| match lasting.take() {
                Some((before, end)) if before.is_same(&now) => (now, end),
                _ => {
                    let end = Instant::now() + now.time();
                    (now, end)
                }
            });
        }
    }

    fn apply(&mut self, change: Option<Change>) {
        match change {
            Some(change) => self.watched.apply(change),
            // Watches do not end by themselves.
            None => self.changes.push(Box::pin(futures_util::stream::pending())),
        }
    }
}

/// The most that a watch pauses after it has failed this often in a row: the default of `kube::runtime`, where 0.8 s double
/// up to 30 s, and up to as much is added by chance.
fn pause_after(failures: u32) -> Duration {
    Duration::from_millis(1600).saturating_mul(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

/// The end of waiting, or what ends it when it lasts.
fn judge(assessment: Assessment, progress: &Progress) -> ControlFlow<Result<(), NotReady>, Option<Lasting>> {
    let (step, lasting) = match assessment {
        Assessment::Ready => return ControlFlow::Break(Ok(())),
        Assessment::Failed(reason) => return ControlFlow::Break(Err(reason.into())),
        Assessment::Waiting(words) => (words, None),
        Assessment::Doubtful(reason) => (format!("waiting although {reason}"), Some(Lasting::Doubt(reason))),
        Assessment::Unproven { restarts } => (
            "waiting whether the containers, which have no readiness probe, keep running".to_owned(),
            Some(Lasting::Unproven { restarts }),
        ),
    };
    progress.step(step);
    ControlFlow::Continue(lasting)
}

/// Something new about the namespace.
pub(super) enum Change {
    Deployment(watcher::Event<Deployment>),
    StatefulSet(watcher::Event<StatefulSet>),
    DaemonSet(watcher::Event<DaemonSet>),
    ReplicaSet(watcher::Event<ReplicaSet>),
    Job(watcher::Event<Job>),
    Pod(watcher::Event<Pod>),
    Event(watcher::Event<Event>),
    Trouble {
        words: String,
        /// How long what is judged is not known at the most, until it is looked for again.
        blind: Option<Duration>,
    },
}

/// Pods and events explain what the workloads are waiting for.
fn changes(client: &Client, namespace: &DeploymentName, kinds: &Kinds) -> SelectAll<BoxStream<'static, Change>> {
    let mut all = SelectAll::new();
    all.push(watch(client, namespace, Change::Pod));
    all.push(watch(client, namespace, Change::Event));
    if kinds.contains(Kind::Deployment) {
        all.push(watch(client, namespace, Change::Deployment));
    }
    if kinds.contains(Kind::StatefulSet) {
        all.push(watch(client, namespace, Change::StatefulSet));
    }
    if kinds.contains(Kind::DaemonSet) {
        all.push(watch(client, namespace, Change::DaemonSet));
    }
    if kinds.contains(Kind::ReplicaSet) {
        all.push(watch(client, namespace, Change::ReplicaSet));
    }
    if kinds.contains(Kind::Job) {
        all.push(watch(client, namespace, Change::Job));
    }
    all
}

fn watch<K>(
    client: &Client,
    namespace: &DeploymentName,
    change: fn(watcher::Event<K>) -> Change,
) -> BoxStream<'static, Change>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType: Default + Eq + Hash + Clone>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api = Api::<K>::namespaced(client.clone(), namespace.as_str());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    // Events only explain: what is judged does not depend on them.
    let is_judged = K::kind(&K::DynamicType::default()) != Event::kind(&());
    let mut failures = 0;
    let to_change = move |event: Result<_, watcher::Error>| {
        failures = if event.is_ok() { 0 } else { failures + 1 };
        event.map_or_else(
            |error| Change::Trouble {
                words: text::line(&error.to_string(), ERROR_LIMIT),
                blind: is_judged.then(|| pause_after(failures)),
            },
            change,
        )
    };
    events.map(to_change).boxed()
}

/// The namespace as it is known, and of which kinds everything is known.
pub(super) struct Watched {
    pub(super) snapshot: Snapshot,
    missing: Vec<&'static str>,
}

impl Watched {
    pub(super) fn new(kinds: &Kinds) -> Self {
        let workloads = [
            (Kind::Deployment, DEPLOYMENTS),
            (Kind::StatefulSet, STATEFUL_SETS),
            (Kind::DaemonSet, DAEMON_SETS),
            (Kind::ReplicaSet, REPLICA_SETS),
            (Kind::Job, JOBS),
        ];
        let workloads = workloads.into_iter().filter(|(kind, _)| kinds.contains(*kind)).map(|(_, name)| name);
        // Events only explain: without them it can be judged too.
        Self { snapshot: Snapshot::default(), missing: workloads.chain([PODS]).collect() }
    }

    /// Whether every list has arrived.
    fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    fn apply(&mut self, change: Change) {
        let Self { snapshot, missing } = self;
        match change {
            Change::Deployment(event) => put(&mut snapshot.deployments, event, missing, DEPLOYMENTS),
            Change::StatefulSet(event) => put(&mut snapshot.stateful_sets, event, missing, STATEFUL_SETS),
            Change::DaemonSet(event) => put(&mut snapshot.daemon_sets, event, missing, DAEMON_SETS),
            Change::ReplicaSet(event) => put(&mut snapshot.replica_sets, event, missing, REPLICA_SETS),
            Change::Job(event) => put(&mut snapshot.jobs, event, missing, JOBS),
            Change::Pod(event) => put(&mut snapshot.pods, event, missing, PODS),
            Change::Event(event) => put(&mut snapshot.events, event, missing, ""),
            Change::Trouble { .. } => {}
        }
    }
}

const DEPLOYMENTS: &str = "deployments";
const STATEFUL_SETS: &str = "stateful sets";
const DAEMON_SETS: &str = "daemon sets";
const REPLICA_SETS: &str = "replica sets";
const JOBS: &str = "jobs";
const PODS: &str = "pods";

/// A list that begins anew counts as missing until its end, because it may lack what is gone.
fn put<K: Resource>(
    objects: &mut BTreeMap<String, K>,
    event: watcher::Event<K>,
    missing: &mut Vec<&'static str>,
    name: &'static str,
) {
    match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            objects.insert(object.name_any(), object);
        }
        watcher::Event::Delete(object) => {
            objects.remove(&object.name_any());
        }
        watcher::Event::Init => {
            objects.clear();
            if !name.is_empty() && !missing.contains(&name) {
                missing.push(name);
            }
        }
        watcher::Event::InitDone => missing.retain(|other| *other != name),
    }
}
