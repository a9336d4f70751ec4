//! Who has been silent for too long, found without looking at everybody each time.

use crate::domain::{Cloudlet, Snapshot, cloudlet::SILENCE};
use sinfonia_wire::CloudletId;
use std::time::{Duration, Instant};

/// How long a look at everybody is good for: who is not a suspect then is not silent before it ends.
const GOOD_FOR: Duration = Duration::from_secs(240);

/// Those who have not reported for a while. All others need not be looked at until the next look at everybody.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    ids: Vec<CloudletId>,
    looked: Option<Instant>,
}

impl Suspects {
    /// Whether it may become silent before the next look at everybody.
    pub(super) fn is_suspect(cloudlet: &Cloudlet, now: Instant) -> bool {
        cloudlet.silence(now).is_some_and(|silence| silence > SILENCE - GOOD_FOR)
    }

    /// Some of those that have been silent for too long at `now`.
    pub(super) fn silent(&mut self, snapshot: &Snapshot, now: Instant, limit: usize) -> Vec<CloudletId> {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= GOOD_FOR) {
            let suspects = snapshot.cloudlets().filter(|cloudlet| Self::is_suspect(cloudlet, now));
            self.ids = suspects.map(|cloudlet| cloudlet.id).collect();
            self.looked = Some(now);
        } else {
            self.ids.retain(|id| snapshot.get(*id).is_some_and(|cloudlet| Self::is_suspect(cloudlet, now)));
        }
        let silent = self.ids.iter().filter(|id| snapshot.get(**id).is_some_and(|cloudlet| cloudlet.is_silent(now)));
        silent.take(limit).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Origin, Registration, cloudlet::Moment};
    use sinfonia_wire::{CloudletInfo, Resources};
    use std::sync::Arc;

    fn cloudlet(heard: Moment) -> Arc<Cloudlet> {
        let mut info = CloudletInfo::new("http://192.0.2.1/api/v1/deploy".parse().unwrap());
        info.uuid = Some(CloudletId::random());
        let registration = Registration { info, origin: Origin::Reported, addresses: vec![], places: vec![], heard };
        Arc::new(Cloudlet::try_from(registration).unwrap())
    }

    /// The same as looking at everybody at any time, whoever reports when.
    #[test]
    fn nobody_is_missed_and_nobody_else_found() {
        let start = Moment::now();
        let after = |seconds| {
            let wait = Duration::from_secs(seconds);
            Moment { at: start.at + wait, date: start.date + wait }
        };
        // Each is heard every 15 s until it dies, at a time of its own.
        let cloudlets: Vec<_> = (0..200).map(|_| cloudlet(start)).collect();
        let snapshot = Snapshot::build(cloudlets.clone());
        let mut suspects = Suspects::default();
        let mut most = 0;
        for now in (0..1_500).step_by(5) {
            for (index, cloudlet) in cloudlets.iter().enumerate() {
                let death = 5 * index as u64;
                if now <= death && (now / 5 + index as u64).is_multiple_of(3) {
                    cloudlet.beat(Resources::new(), after(now));
                }
            }
            let now = after(now).at;
            let mut found = suspects.silent(&snapshot, now, usize::MAX);
            let mut all: Vec<_> = cloudlets.iter().filter(|known| known.is_silent(now)).map(|known| known.id).collect();
            found.sort_unstable();
            all.sort_unstable();
            assert_eq!(found, all);
            most = most.max(suspects.ids.len() - found.len());
        }
        assert!(most < 100, "{most} of 200 were looked at beside the silent ones");
        assert_eq!(suspects.silent(&snapshot, after(1_500).at, 3).len(), 3);
    }
}
