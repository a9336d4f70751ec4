//! Cloudlets that just failed, so that the next clients are not sent there.

use sinfonia_wire::{ApplicationId, CloudletId};
use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// For how long a failure counts.
pub const SETBACK: Duration = Duration::from_secs(60);
/// Failures remembered at most.
const CAPACITY: usize = 100_000;

/// Failures by cloudlet, and by application where others may do well there.
#[derive(Debug, Default)]
pub struct Setbacks {
    until: RwLock<HashMap<Place, Instant>>,
    /// Whether there is anything to look up.
    any: AtomicBool,
}

type Place = (CloudletId, Option<ApplicationId>);

impl Setbacks {
    /// A cloudlet failed, with this application or with any.
    pub fn note(&self, cloudlet: CloudletId, application: Option<ApplicationId>, now: Instant) {
        let mut until = self.until.write().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= CAPACITY {
            until.retain(|_, end| *end > now);
        }
        if until.len() < CAPACITY {
            until.insert((cloudlet, application), now + SETBACK);
            self.any.store(true, Ordering::Release);
        }
    }

    /// It did well.
    pub fn clear(&self, cloudlet: CloudletId, application: ApplicationId) {
        if self.any.load(Ordering::Acquire) {
            let mut until = self.until.write().unwrap_or_else(PoisonError::into_inner);
            until.remove(&(cloudlet, None));
            until.remove(&(cloudlet, Some(application)));
            self.any.store(!until.is_empty(), Ordering::Release);
        }
    }

    /// Whether others come before it at `now`.
    #[must_use]
    pub fn holds(&self, cloudlet: CloudletId, application: ApplicationId, now: Instant) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let until = self.until.read().unwrap_or_else(PoisonError::into_inner);
        [None, Some(application)].into_iter().any(|part| until.get(&(cloudlet, part)).is_some_and(|end| *end > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_for_a_while_and_until_success() {
        let (setbacks, now, [a, b]) = (Setbacks::default(), Instant::now(), [(); 2].map(|()| CloudletId::random()));
        let [one, other] = [[1; 16], [2; 16]].map(|bytes| ApplicationId::from(uuid::Uuid::from_bytes(bytes)));
        setbacks.note(a, None, now);
        setbacks.note(b, Some(one), now);
        assert!(setbacks.holds(a, one, now) && setbacks.holds(a, other, now));
        assert!(setbacks.holds(b, one, now) && !setbacks.holds(b, other, now));
        assert!(!setbacks.holds(a, one, now + SETBACK));
        setbacks.clear(a, other);
        setbacks.clear(b, other);
        assert!(!setbacks.holds(a, one, now) && setbacks.holds(b, one, now));
        setbacks.clear(b, one);
        assert!(!setbacks.any.load(Ordering::Relaxed));
    }
}
