//! Pauses between tries of what fails, longer each time. A change of the object, as the one that says what failed, does
//! not cut them short.

use std::{
    collections::HashMap,
    mem::{self, Discriminant},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use tokio::time::Instant;

use crate::kubernetes::{crd::CloudletDeployment, decide::Work};

/// The pause after the first failure, and the longest.
pub(super) const RETRY: Duration = Duration::from_millis(250);
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What fails at present, by the objects' names.
#[derive(Default)]
pub(super) struct Backoff(Mutex<HashMap<String, Failing>>);

struct Failing {
    uid: Option<String>,
    work: Discriminant<Work>,
    times: u32,
    reason: String,
    not_before: Instant,
}

impl Failing {
    fn is_of(&self, object: &CloudletDeployment, work: Work) -> bool {
        self.uid == object.uid() && self.work == mem::discriminant(&work)
    }
}

impl Backoff {
    /// Notes a failure. How many there were in a row, how long to wait, `most` at most, and whether the reason is another
    /// one than before.
    pub(super) fn failed(
        &self,
        object: &CloudletDeployment,
        work: Work,
        reason: &str,
        most: Duration,
    ) -> (u32, Duration, bool) {
        let mut failing = self.failing();
        let before = failing.get(&object.name_any()).filter(|failing| failing.is_of(object, work));
        let (times, is_new) = before.map_or((0, true), |before| (before.times, before.reason != reason));
        let pause = RETRY.saturating_mul(1 << times.min(8)).min(most.clamp(RETRY, LONGEST_RETRY));
        let times = times.saturating_add(1);
        let now = Failing {
            uid: object.uid(),
            work: mem::discriminant(&work),
            times,
            reason: reason.to_owned(),
            not_before: Instant::now() + pause,
        };
        failing.insert(object.name_any(), now);
        (times, pause, is_new)
    }

    /// How long this work is not to be tried yet.
    pub(super) fn left(&self, object: &CloudletDeployment, work: Work) -> Option<Duration> {
        let failing = self.failing();
        let of_this = failing.get(&object.name_any()).filter(|failing| failing.is_of(object, work))?;
        Some(of_this.not_before.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// For work that was done.
    pub(super) fn forget(&self, object: &CloudletDeployment) {
        self.failing().remove(&object.name_any());
    }

    /// Forgets objects that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.failing().retain(|name, _| is_there(name));
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<String, Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::crd::tests::object;

    const INSTALL: Work = Work::Install { afresh: false };

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_longest_and_hold_whatever_changes() {
        let (backoff, mut object) = (Backoff::default(), object(7, None));
        object.metadata.uid = Some("a".to_owned());
        assert_eq!(backoff.left(&object, INSTALL), None);
        let pauses: Vec<_> =
            (0..8).map(|_| backoff.failed(&object, INSTALL, "no", Duration::MAX).1.as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(backoff.failed(&object, INSTALL, "no", Duration::from_secs(3)).1.as_secs(), 3);
        assert_eq!(backoff.failed(&object, INSTALL, "no", Duration::ZERO).1, RETRY);
        backoff.failed(&object, INSTALL, "no", LONGEST_RETRY);
        object.metadata.resource_version = Some("9".to_owned());
        assert_eq!(backoff.left(&object, Work::Install { afresh: true }), Some(LONGEST_RETRY));
        tokio::time::advance(LONGEST_RETRY).await;
        assert_eq!(backoff.left(&object, INSTALL), None);
    }

    #[tokio::test(start_paused = true)]
    async fn other_work_and_another_object_do_not_wait() {
        let (backoff, mut object) = (Backoff::default(), object(7, None));
        object.metadata.uid = Some("a".to_owned());
        assert_eq!(backoff.failed(&object, Work::Withdraw, "no", LONGEST_RETRY), (1, RETRY, true));
        assert_eq!(backoff.failed(&object, Work::Withdraw, "no", LONGEST_RETRY), (2, RETRY * 2, false));
        assert_eq!(backoff.failed(&object, Work::Withdraw, "never", LONGEST_RETRY), (3, RETRY * 4, true));
        assert_eq!(backoff.left(&object, INSTALL), None);
        object.metadata.uid = Some("b".to_owned());
        assert_eq!(backoff.left(&object, Work::Withdraw), None);
        assert_eq!(backoff.failed(&object, Work::Withdraw, "never", LONGEST_RETRY), (1, RETRY, true));
        backoff.retain(|_| false);
        assert_eq!(backoff.left(&object, Work::Withdraw), None);
    }
}
