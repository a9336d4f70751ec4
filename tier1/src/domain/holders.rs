//! Which cloudlets hold a client's deployment, so that it is found again.

use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use sinfonia_wire::{ApplicationId, CloudletId, PublicKey};
use std::time::Duration;
use uuid::Uuid;

/// Deployments remembered at most, and for how long after they were last asked for.
const CAPACITY: u64 = 250_000;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Cloudlets remembered for one deployment.
const CLOUDLETS: usize = 16;

/// One client's deployment of one application.
pub type Deployment = (ApplicationId, PublicKey);

/// Cloudlets by deployment. When full, what was used least goes.
#[derive(Debug)]
pub struct Holders(Cache<Deployment, Holding>);

/// The cloudlets of one deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// To be asked first: they hold it, or are being asked to.
    pub chosen: Vec<CloudletId>,
    /// May hold it, because they did not answer clearly.
    pub doubtful: Vec<CloudletId>,
    /// Whose it is; none: nobody's in particular.
    pub owner: Option<Uuid>,
}

/// What came of asking for a deployment.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Hold it now, best first.
    pub holding: Vec<CloudletId>,
    /// Surely do not.
    pub without: Vec<CloudletId>,
    /// May or may not.
    pub doubtful: Vec<CloudletId>,
}

impl Outcome {
    /// That one cloudlet surely does not hold it.
    #[must_use]
    pub fn without(cloudlet: CloudletId) -> Self {
        Self { without: vec![cloudlet], ..Self::default() }
    }
}

impl Default for Holders {
    fn default() -> Self {
        // Moka's own policy would rather keep what is used often than what is new.
        let lru = EvictionPolicy::lru();
        Self(Cache::builder().max_capacity(CAPACITY).eviction_policy(lru).time_to_idle(FORGOTTEN_AFTER).build())
    }
}

impl Holders {
    /// What is known about a deployment.
    #[must_use]
    pub fn get(&self, deployment: &Deployment) -> Holding {
        self.0.get(deployment).unwrap_or_default()
    }

    /// Chooses cloudlets unless one that `suits` is chosen already, and returns the chosen ones: of requests at the same
    /// time, all go where the first one goes.
    #[must_use]
    pub fn claim(
        &self,
        deployment: Deployment,
        cloudlets: Vec<CloudletId>,
        suits: impl Fn(CloudletId) -> bool,
    ) -> Vec<CloudletId> {
        let entry = self.0.entry(deployment).and_upsert_with(|known| {
            let mut holding = known.map(moka::Entry::into_value).unwrap_or_default();
            if !holding.chosen.iter().any(|id| suits(*id)) {
                let former = std::mem::replace(&mut holding.chosen, cloudlets);
                holding.chosen.extend(former);
                holding.chosen.truncate(CLOUDLETS);
            }
            holding
        });
        entry.into_value().chosen
    }

    /// Makes a deployment, which there may not be yet, somebody's unless it is somebody else's; false if it is.
    #[must_use]
    pub fn own(&self, deployment: Deployment, principal: Uuid) -> bool {
        let entry = self.0.entry(deployment).and_upsert_with(|known| {
            let mut holding = known.map(moka::Entry::into_value).unwrap_or_default();
            holding.owner.get_or_insert(principal);
            holding
        });
        entry.into_value().owner == Some(principal)
    }

    /// Takes note of what came of asking.
    pub fn settle(&self, deployment: Deployment, outcome: &Outcome) {
        self.change(deployment, |known| {
            let Outcome { holding, without, doubtful } = outcome;
            let others = |all: &[CloudletId], but: &[&[CloudletId]]| -> Vec<CloudletId> {
                all.iter().filter(|id| !but.iter().any(|list| list.contains(id))).copied().collect()
            };
            let mut chosen = holding.clone();
            chosen.extend(others(&known.chosen, &[holding, without, doubtful]));
            let mut unclear = others(doubtful, &[]);
            unclear.extend(others(&known.doubtful, &[holding, without, doubtful]));
            Holding { chosen, doubtful: unclear, owner: known.owner }
        });
    }

    /// Makes this what is known.
    pub(crate) fn put(&self, deployment: Deployment, holding: Holding) {
        self.change(deployment, |_| holding);
    }

    fn change(&self, deployment: Deployment, change: impl FnOnce(Holding) -> Holding) {
        let _ = self.0.entry(deployment).and_compute_with(|known| {
            let mut holding = change(known.map(moka::Entry::into_value).unwrap_or_default());
            holding.chosen.truncate(CLOUDLETS);
            holding.doubtful.truncate(CLOUDLETS);
            if holding.is_empty() { Op::Remove } else { Op::Put(holding) }
        });
    }
}

impl Holding {
    /// Whether nobody may hold it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chosen.is_empty() && self.doubtful.is_empty()
    }

    /// Everyone who may hold it.
    pub fn all(&self) -> impl Iterator<Item = CloudletId> {
        self.chosen.iter().chain(&self.doubtful).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        (ApplicationId::HELLOWORLD, PublicKey::from([7; 32]))
    }

    fn known(chosen: &[CloudletId], doubtful: &[CloudletId]) -> Holding {
        Holding { chosen: chosen.to_vec(), doubtful: doubtful.to_vec(), owner: None }
    }

    #[test]
    fn the_first_claim_wins() {
        let (holders, [a, b]) = (Holders::default(), [(); 2].map(|()| CloudletId::random()));
        assert_eq!(holders.claim(deployment(), vec![a], |_| true), [a]);
        assert_eq!(holders.claim(deployment(), vec![b], |_| true), [a]);
        assert_eq!(holders.claim(deployment(), vec![b], |id| id != a), [b, a]);
        let other = (ApplicationId::HELLOWORLD, PublicKey::from([8; 32]));
        assert_eq!(holders.claim(other, vec![b], |_| true), [b]);
    }

    #[test]
    fn a_deployment_is_its_first_owners_until_it_is_gone() {
        let (holders, cloudlet) = (Holders::default(), CloudletId::random());
        let [first, second] = [(); 2].map(|()| Uuid::new_v4());
        let settle = |holding: Vec<_>, without: Vec<_>| {
            holders.settle(deployment(), &Outcome { holding, without, ..Outcome::default() });
        };
        assert!(holders.own(deployment(), first) && !holders.own(deployment(), second));
        let _ = holders.claim(deployment(), vec![cloudlet], |_| true);
        settle(vec![cloudlet], vec![]);
        assert_eq!(holders.get(&deployment()).owner, Some(first));
        assert!(!holders.own(deployment(), second));
        settle(vec![], vec![cloudlet]);
        assert!(holders.own(deployment(), second), "it is another one");
        settle(vec![], vec![]);
        assert!(holders.own(deployment(), first), "nothing came of it");
    }

    #[test]
    fn outcomes_move_cloudlets() {
        let (holders, [a, b, c, d]) = (Holders::default(), [(); 4].map(|()| CloudletId::random()));
        let settle = |holding: &[_], without: &[_], doubtful: &[_]| {
            let [holding, without, doubtful] = [holding, without, doubtful].map(<[_]>::to_vec);
            holders.settle(deployment(), &Outcome { holding, without, doubtful });
            holders.get(&deployment())
        };
        let _ = holders.claim(deployment(), vec![a, b], |_| true);
        assert_eq!(settle(&[b], &[], &[a]), known(&[b], &[a]));
        assert_eq!(settle(&[c], &[], &[]), known(&[c, b], &[a]));
        assert_eq!(settle(&[a], &[c], &[d]), known(&[a, b], &[d]));
        assert_eq!(settle(&[], &[a, b, d], &[]), Holding::default());
        assert_eq!(holders.claim(deployment(), vec![d], |_| true), [d]);
    }
}
