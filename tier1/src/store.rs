//! Who is known, in memory: the members themselves, and the snapshot of them that matching uses.
//!
//! Reports that change nothing but load and time touch one cloudlet. What changes the membership is gathered, and one
//! new snapshot off the request path serves all who wait for it. A durable store has its place where `register` and
//! `expire` change the members.

use crate::domain::{
    Cloudlet, Origin, Registration, Snapshot,
    cloudlet::{Moment, RegistrationError},
};
use arc_swap::{ArcSwap, Guard};
use sinfonia_wire::{CloudletId, CloudletInfo};
use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use thiserror::Error;
use tokio::{sync::Mutex as AsyncMutex, task::spawn_blocking};

/// Everyone who is known.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    snapshot: ArcSwap<Snapshot>,
    members: Mutex<Members>,
    /// The change up to which the snapshot is complete; locked while one is made.
    published: AsyncMutex<u64>,
}

#[derive(Debug, Default)]
struct Members {
    by_id: BTreeMap<CloudletId, Arc<Cloudlet>>,
    /// Number of changes so far.
    changes: u64,
}

/// Why a cloudlet was not registered.
#[derive(Debug, Error)]
pub(crate) enum RegisterError {
    /// It is no cloudlet.
    #[error(transparent)]
    Invalid(#[from] RegistrationError),
    /// The operator's list cannot be changed by reports.
    #[error("cloudlet {0} is listed in tier1's configuration and cannot be changed by reports; use another uuid")]
    Configured(CloudletId),
}

impl Registry {
    /// Starts with the operator's cloudlets.
    #[must_use]
    pub(crate) fn new(configured: Vec<Cloudlet>) -> Self {
        let by_id: BTreeMap<_, _> = configured.into_iter().map(|cloudlet| (cloudlet.id, Arc::new(cloudlet))).collect();
        let snapshot = Snapshot::build(by_id.values().cloned().collect());
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            members: Mutex::new(Members { by_id, changes: 0 }),
            published: AsyncMutex::default(),
        }
    }

    /// Who is known now, for a short look.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Takes note of a report if it says nothing new but load and time; otherwise the cloudlet has to be registered.
    #[must_use]
    pub(crate) fn beat(&self, info: &CloudletInfo, heard: Moment) -> bool {
        let Some(known) = info.uuid.and_then(|id| self.members().by_id.get(&id).map(Arc::clone)) else {
            return false;
        };
        let same = known.is_declared_by(info, Origin::Reported);
        if same {
            known.beat(info.resources.clone(), heard);
        }
        same
    }

    /// Adds a cloudlet or replaces what was known of it. Matching knows it when this returns.
    ///
    /// # Errors
    /// When the registration names no cloudlet, or one of the operator's.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(), RegisterError> {
        let cloudlet = Cloudlet::try_from(registration)?;
        let change = {
            let mut members = self.members();
            let configured = members.by_id.get(&cloudlet.id).is_some_and(|known| known.origin == Origin::Configured);
            if configured {
                return Err(RegisterError::Configured(cloudlet.id));
            }
            members.by_id.insert(cloudlet.id, Arc::new(cloudlet));
            members.change()
        };
        self.publish(change).await;
        Ok(())
    }

    /// Drops those that have been silent for too long at `now`, and returns how many.
    pub(crate) async fn expire(&self, now: Instant) -> usize {
        let (dropped, change) = {
            let mut members = self.members();
            let before = members.by_id.len();
            members.by_id.retain(|_, cloudlet| !cloudlet.is_silent(now));
            match before - members.by_id.len() {
                0 => return 0,
                dropped => (dropped, members.change()),
            }
        };
        self.publish(change).await;
        dropped
    }

    /// Makes the snapshot include `change`. Of all who wait, the first makes it for all.
    async fn publish(&self, change: u64) {
        let mut published = self.published.lock().await;
        if *published >= change {
            return;
        }
        let (changes, cloudlets) = {
            let members = self.members();
            (members.changes, members.by_id.values().cloned().collect())
        };
        let built = spawn_blocking(move || Snapshot::build(cloudlets)).await;
        let snapshot = built.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Only when the program ends.
            Err(_) => Snapshot::default(),
        });
        self.snapshot.store(Arc::new(snapshot));
        *published = changes;
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }
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
        assert_eq!(registry.snapshot().cloudlets().len(), 2);

        let late = after(beat, SILENCE + Duration::from_millis(1));
        assert_eq!(registry.expire(late.at).await, 1);
        assert!(registry.snapshot().get(id).is_none());
        assert_eq!(registry.snapshot().cloudlets().len(), 1);
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
