//! Everyone who is known, in memory.

use super::{RegisterError, silence::Suspects};
use crate::domain::{Cloudlet, Origin, Registration, Snapshot, cloudlet::Moment, snapshot::Change};
use arc_swap::{ArcSwap, Guard};
use sinfonia_wire::{CloudletId, CloudletInfo, Resources};
use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::{sync::Mutex as AsyncMutex, task::spawn_blocking};

/// Everyone who is known.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    snapshot: ArcSwap<Snapshot>,
    pending: Mutex<Pending>,
    /// The change up to which the snapshot is complete; locked while one is made.
    published: AsyncMutex<u64>,
    /// Locked while everything is indexed anew. Holds the former snapshot, which costs time to forget.
    compacting: AsyncMutex<Arc<Snapshot>>,
    /// Who may be silent soon.
    suspects: AsyncMutex<Suspects>,
    /// Somebody may have come who had been silent for a while.
    strangers: AtomicBool,
}

/// Changes that the snapshot does not have yet.
#[derive(Debug, Default)]
struct Pending {
    by_id: HashMap<CloudletId, (u64, Option<Arc<Cloudlet>>)>,
    /// Number of changes so far.
    changes: u64,
}

impl Registry {
    /// Starts with the operator's cloudlets.
    #[must_use]
    pub(crate) fn new(configured: Vec<Cloudlet>) -> Self {
        // Of several with the same identity the last one counts.
        let by_id: HashMap<_, _> = configured.into_iter().map(|cloudlet| (cloudlet.id, Arc::new(cloudlet))).collect();
        let snapshot = ArcSwap::from_pointee(Snapshot::build(by_id.into_values().collect()));
        Self { snapshot, ..Self::default() }
    }

    /// Who is known now, for a short look.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Takes note of a report if it says nothing new but load and time; otherwise the cloudlet has to be registered.
    #[must_use]
    pub(crate) fn beat(&self, info: &CloudletInfo, heard: Moment) -> bool {
        self.declared(info).inspect(|known| known.beat(info.resources.clone(), heard)).is_some()
    }

    /// Adds a cloudlet or replaces what was known of it. Matching knows it when this returns.
    ///
    /// # Errors
    /// When the registration names no cloudlet, or one of the operator's.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(), RegisterError> {
        let cloudlet = Cloudlet::try_from(registration)?;
        let id = cloudlet.id;
        let change = {
            let mut pending = self.pending();
            if !self.put(&mut pending, cloudlet) {
                return Err(RegisterError::Configured(id));
            }
            pending.changes
        };
        self.publish(change).await;
        Ok(())
    }

    /// Drops a cloudlet that is not the operator's; false if there is none.
    pub(crate) async fn forget(&self, id: CloudletId) -> bool {
        let (is_known, change) = {
            let mut pending = self.pending();
            (self.remove(&mut pending, id, |_| true), pending.changes)
        };
        if is_known {
            self.publish(change).await;
        }
        is_known
    }

    /// Drops those that have been silent for too long at `now`, and returns how many.
    pub(crate) async fn expire(&self, now: Instant) -> usize {
        let silent = self.silent(now, usize::MAX).await;
        let (dropped, change) = {
            let mut pending = self.pending();
            // One of them may have been heard meanwhile.
            let dropped = silent.into_iter().filter(|id| self.remove(&mut pending, *id, |known| known.is_silent(now)));
            (dropped.count(), pending.changes)
        };
        if dropped > 0 {
            self.publish(change).await;
        }
        dropped
    }

    /// Some of those that have been silent for too long at `now`.
    #[must_use]
    pub(crate) async fn silent(&self, now: Instant, limit: usize) -> Vec<CloudletId> {
        let mut known = self.suspects.lock().await;
        let mut suspects = std::mem::take(&mut *known);
        // Before the snapshot is looked at, where those are that are noted.
        if self.strangers.swap(false, Ordering::SeqCst) {
            suspects = Suspects::default();
        }
        let snapshot = self.snapshot.load_full();
        let (silent, suspects) = blocking(move || {
            let silent = suspects.silent(&snapshot, now, limit);
            (silent, suspects)
        })
        .await;
        *known = suspects;
        silent
    }

    /// Indexes everything anew when there are many changes beside the big index; others may make changes meanwhile. To
    /// be called now and then.
    pub(crate) async fn compact(&self) {
        let mut former = self.compacting.lock().await;
        let forgotten = std::mem::take(&mut *former);
        let before = self.snapshot.load_full();
        let start = Arc::clone(&before);
        let compacted = blocking(move || {
            drop(forgotten);
            start.is_scattered().then(|| start.compacted())
        });
        let Some(compacted) = compacted.await else { return };
        let published = self.published.lock().await;
        let since = self.snapshot.load().changes_since(&before);
        self.snapshot.store(Arc::new(compacted.with(since)));
        drop(published);
        *former = before;
    }

    /// Makes the snapshot include `change`. Of all who wait, the first makes it for all.
    async fn publish(&self, change: u64) {
        let mut published = self.published.lock().await;
        if *published >= change {
            return;
        }
        let (changes, all) = {
            let pending = self.pending();
            (pending.changes, pending.all())
        };
        let before = self.snapshot.load_full();
        let snapshot = blocking(move || before.with(all)).await;
        self.show(snapshot, changes, &mut published);
    }

    /// Replaces the snapshot by one that has all changes up to one.
    fn show(&self, snapshot: Snapshot, change: u64, published: &mut u64) {
        self.snapshot.store(Arc::new(snapshot));
        // Only now, so that everybody is found here or there at any time.
        self.pending().by_id.retain(|_, (number, _)| *number > change);
        *published = change;
    }

    fn declared(&self, info: &CloudletInfo) -> Option<Arc<Cloudlet>> {
        let known = self.get(&self.pending(), info.uuid?)?;
        known.is_declared_by(info, Origin::Reported).then_some(known)
    }

    fn get(&self, pending: &Pending, id: CloudletId) -> Option<Arc<Cloudlet>> {
        match pending.by_id.get(&id) {
            Some((_, known)) => known.clone(),
            None => self.snapshot.load().get(id).cloned(),
        }
    }

    /// Unless it is the operator's. What was heard of it meanwhile stays.
    fn put(&self, pending: &mut Pending, cloudlet: Cloudlet) -> bool {
        let known = self.get(pending, cloudlet.id);
        if known.as_ref().is_some_and(|known| known.origin == Origin::Configured) {
            return false;
        }
        if let Some(known) = known {
            cloudlet.inherit(&known);
        }
        pending.change(cloudlet.id, Some(Arc::new(cloudlet)));
        true
    }

    /// Unless it is the operator's.
    fn remove(&self, pending: &mut Pending, id: CloudletId, condition: impl Fn(&Cloudlet) -> bool) -> bool {
        let known = self.get(pending, id).filter(|known| known.origin == Origin::Reported && condition(known));
        if known.is_some() {
            pending.change(id, None);
        }
        known.is_some()
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a durable store does with the memory that follows it.
impl Registry {
    /// Whether a report says nothing new of a known cloudlet but load and time.
    #[must_use]
    pub(crate) fn declares(&self, info: &CloudletInfo) -> bool {
        self.declared(info).is_some()
    }

    /// Whether a cloudlet is the operator's.
    #[must_use]
    pub(crate) fn is_configured(&self, id: CloudletId) -> bool {
        self.get(&self.pending(), id).is_some_and(|known| known.origin == Origin::Configured)
    }

    /// Takes note of reports that are in the database, except where later ones are known.
    pub(crate) fn renew(&self, reports: impl IntoIterator<Item = (CloudletId, Resources, Moment)>) {
        // Locked, so that no cloudlet is replaced by one that has not heard of this.
        let pending = self.pending();
        for (id, resources, heard) in reports {
            if let Some(known) = self.get(&pending, id).filter(|known| known.origin == Origin::Reported) {
                known.renew(resources, heard);
            }
        }
    }

    /// Makes these what is known of them, and forgets others. The operator's stay as they are.
    pub(crate) async fn update(&self, present: Vec<Cloudlet>, gone: Vec<CloudletId>) {
        let now = Instant::now();
        let is_strange = present.iter().any(|cloudlet| Suspects::is_suspect(cloudlet, now));
        let change = {
            let mut pending = self.pending();
            for id in gone {
                self.remove(&mut pending, id, |_| true);
            }
            for cloudlet in present {
                self.put(&mut pending, cloudlet);
            }
            pending.changes
        };
        self.publish(change).await;
        self.strangers.fetch_or(is_strange, Ordering::SeqCst);
    }

    /// Makes these all that is known beside the operator's, in one big step. What was heard of them elsewhere counts no
    /// more; what was sent to them does.
    pub(crate) async fn replace(&self, all: Vec<Cloudlet>) {
        let mut compacting = self.compacting.lock().await;
        let forgotten = std::mem::take(&mut *compacting);
        let mut published = self.published.lock().await;
        let (change, before) = {
            let pending = self.pending();
            (pending.changes, self.snapshot.load().with(pending.all()))
        };
        let built = blocking(move || {
            drop(forgotten);
            let configured = before.cloudlets().filter(|known| known.origin == Origin::Configured);
            let mut by_id: HashMap<_, _> = configured.map(|known| (known.id, Arc::clone(known))).collect();
            for cloudlet in all {
                let former = before.get(cloudlet.id);
                if former.is_none_or(|former| former.origin == Origin::Reported) {
                    former.inspect(|former| cloudlet.go_on(former));
                    by_id.insert(cloudlet.id, Arc::new(cloudlet));
                }
            }
            Snapshot::build(by_id.into_values().collect())
        });
        let former = self.snapshot.load_full();
        self.show(built.await, change, &mut published);
        self.strangers.store(true, Ordering::SeqCst);
        *compacting = former;
    }
}

impl Pending {
    fn change(&mut self, id: CloudletId, cloudlet: Option<Arc<Cloudlet>>) {
        self.changes += 1;
        self.by_id.insert(id, (self.changes, cloudlet));
    }

    fn all(&self) -> Vec<Change> {
        self.by_id.iter().map(|(id, (_, cloudlet))| (*id, cloudlet.clone())).collect()
    }
}

/// Off the threads that serve.
async fn blocking<T: Default + Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        // Only when the program ends.
        Err(_) => T::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cloudlet::SILENCE;
    use std::time::Duration;

    fn registration(id: CloudletId, origin: Origin, heard: Moment) -> Registration {
        let mut info = CloudletInfo::new("http://192.0.2.1/api/v1/deploy".parse().unwrap());
        info.uuid = Some(id);
        Registration { info, origin, addresses: vec![], places: vec![], heard }
    }

    fn after(moment: Moment, wait: Duration) -> Moment {
        Moment { at: moment.at + wait, date: moment.date + wait }
    }

    #[tokio::test]
    async fn silent_cloudlets_go_configured_ones_stay() {
        let (start, id, listed) = (Moment::now(), CloudletId::random(), CloudletId::random());
        let listed = Cloudlet::try_from(registration(listed, Origin::Configured, start)).unwrap();
        let registry = Registry::new(vec![listed]);
        registry.register(registration(id, Origin::Reported, start)).await.unwrap();
        assert_eq!(registry.expire(after(start, SILENCE).at).await, 0);

        let report = registration(id, Origin::Reported, start).info;
        let beat = after(start, SILENCE);
        assert!(registry.beat(&report, beat));
        assert_eq!(registry.expire(after(beat, SILENCE).at).await, 0);
        assert_eq!(registry.snapshot().len(), 2);

        let late = after(beat, SILENCE + Duration::from_millis(1));
        assert_eq!(registry.expire(late.at).await, 1);
        assert!(registry.snapshot().get(id).is_none());
        assert_eq!(registry.snapshot().len(), 1);
        assert!(!registry.beat(&report, late), "it has to be registered again");
    }

    #[tokio::test]
    async fn only_what_changes_the_membership_makes_a_snapshot() {
        let (start, id) = (Moment::now(), CloudletId::random());
        let registry = Registry::default();
        registry.register(registration(id, Origin::Reported, start)).await.unwrap();
        let before = registry.snapshot().clone();

        let mut report = registration(id, Origin::Reported, start).info;
        report.resources.insert("cpu_ratio", 0.5).unwrap();
        assert!(registry.beat(&report, start));
        assert!(Arc::ptr_eq(&before, &registry.snapshot()));
        assert_eq!(registry.snapshot().get(id).unwrap().pulse().resources.get("cpu_ratio"), Some(0.5));

        report.draining = true;
        assert!(!registry.beat(&report, start));
        registry.register(Registration { info: report, ..registration(id, Origin::Reported, start) }).await.unwrap();
        assert!(registry.snapshot().get(id).unwrap().draining);
        assert!(!Arc::ptr_eq(&before, &registry.snapshot()));
    }

    #[tokio::test]
    async fn reports_do_not_replace_configured_cloudlets() {
        let (start, id) = (Moment::now(), CloudletId::random());
        let registry = Registry::new(vec![Cloudlet::try_from(registration(id, Origin::Configured, start)).unwrap()]);
        let report = registration(id, Origin::Reported, start);
        assert!(!registry.beat(&report.info, start));
        assert!(matches!(registry.register(report).await, Err(RegisterError::Configured(refused)) if refused == id));
    }

    fn load(value: f64) -> Resources {
        let mut resources = Resources::new();
        resources.insert("cpu_ratio", value).unwrap();
        resources
    }

    #[tokio::test]
    async fn the_database_decides_but_for_the_operators_cloudlets() {
        let (start, [id, listed, other]) = (Moment::now(), [(); 3].map(|()| CloudletId::random()));
        let cloudlet = |id, origin, heard| Cloudlet::try_from(registration(id, origin, heard)).unwrap();
        let registry = Registry::new(vec![cloudlet(listed, Origin::Configured, start)]);
        let later = after(start, Duration::from_secs(1));
        let both = vec![cloudlet(id, Origin::Reported, start), cloudlet(listed, Origin::Reported, later)];
        registry.update(both, vec![]).await;
        assert!(registry.is_configured(listed) && !registry.is_configured(id));
        assert!(registry.declares(&registration(id, Origin::Reported, start).info));

        registry.renew([(id, load(0.5), later), (id, load(0.9), start)]);
        let cpu = || registry.snapshot().get(id).unwrap().pulse().resources.get("cpu_ratio");
        assert_eq!(cpu(), Some(0.5), "the later report counts");
        registry.update(vec![cloudlet(id, Origin::Reported, start)], vec![]).await;
        assert_eq!(cpu(), Some(0.5), "what was heard meanwhile stays");

        registry.replace(vec![cloudlet(id, Origin::Reported, start), cloudlet(other, Origin::Reported, start)]).await;
        assert_eq!((cpu(), registry.snapshot().len()), (None, 3), "all of it is the database's");
        registry.update(vec![], vec![id, listed]).await;
        let left: Vec<_> = registry.snapshot().cloudlets().map(|cloudlet| cloudlet.id).collect();
        assert!(left.len() == 2 && left.contains(&listed) && left.contains(&other));
    }

    #[tokio::test]
    async fn changes_while_everything_is_indexed_anew_are_kept() {
        let (start, registry) = (Moment::now(), Registry::default());
        let ids: Vec<_> = (0..6_000).map(|_| CloudletId::random()).collect();
        let cloudlet = |id| Cloudlet::try_from(registration(id, Origin::Reported, start)).unwrap();
        registry.update(ids.iter().map(|id| cloudlet(*id)).collect(), vec![]).await;
        assert!(registry.snapshot().is_scattered());
        let new: Vec<_> = (0..50).map(|_| CloudletId::random()).collect();
        let changes = async {
            for (id, gone) in new.iter().zip(&ids) {
                registry.update(vec![cloudlet(*id)], vec![*gone]).await;
            }
        };
        tokio::join!(registry.compact(), changes);
        registry.compact().await;
        let snapshot = registry.snapshot();
        assert_eq!((snapshot.len(), snapshot.is_scattered()), (6_000, false));
        assert!(new.iter().chain(&ids[50..]).all(|id| snapshot.get(*id).is_some()));
        assert!(ids[..50].iter().all(|id| snapshot.get(*id).is_none()));
    }

    #[tokio::test]
    async fn what_was_sent_is_remembered_when_the_description_is_replaced() {
        let (start, id) = (Moment::now(), CloudletId::random());
        let registry = Registry::default();
        registry.register(registration(id, Origin::Reported, start)).await.unwrap();
        let sent = crate::domain::Sent::to(registry.snapshot().get(id).unwrap());
        let mut report = registration(id, Origin::Reported, start);
        report.info.labels.insert("gpu".to_owned(), "a100".to_owned());
        registry.register(report).await.unwrap();
        drop(sent);
        let sent = || registry.snapshot().get(id).unwrap().load(start.at).sent;
        assert_eq!(sent(), 1);
        registry.replace(vec![Cloudlet::try_from(registration(id, Origin::Reported, start)).unwrap()]).await;
        assert_eq!(sent(), 1, "also when the database is read anew");
    }

    #[tokio::test]
    async fn many_registrations_at_once_are_all_there() {
        let registry = Registry::default();
        let ids: Vec<_> = (0..200).map(|_| CloudletId::random()).collect();
        let registered = ids.iter().map(|id| registry.register(registration(*id, Origin::Reported, Moment::now())));
        for result in futures_util::future::join_all(registered).await {
            result.unwrap();
        }
        let snapshot = registry.snapshot();
        assert!(ids.iter().all(|id| snapshot.get(*id).is_some()));
    }
}
