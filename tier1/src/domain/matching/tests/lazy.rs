//! Snapshots with changes beside the big index, and how little is looked at.

use super::{World, cloudlet, known};
use crate::domain::{Client, Cloudlet, MatcherKind, Snapshot};
use proptest::{collection::vec, prelude::*};
use sinfonia_recipes::Placement;
use sinfonia_wire::{CloudletId, CloudletInfo};
use std::{collections::BTreeMap, sync::Arc};

type Model = BTreeMap<CloudletId, Arc<Cloudlet>>;

fn same(snapshot: &Snapshot, model: &Model) -> Result<(), TestCaseError> {
    let all: Vec<_> = snapshot.cloudlets().collect();
    prop_assert_eq!(all.len(), model.len());
    prop_assert!(all.iter().zip(model.values()).all(|(a, b)| Arc::ptr_eq(a, b)));
    prop_assert_eq!((snapshot.len(), snapshot.is_empty()), (model.len(), model.is_empty()));
    prop_assert!(model.iter().all(|(id, known)| Arc::ptr_eq(snapshot.get(*id).unwrap(), known)));
    Ok(())
}

proptest! {
    #[test]
    fn changes_give_what_building_anew_gives(
        pool in vec(cloudlet(), 1..25),
        steps in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 0..60),
        split in any::<prop::sample::Index>(),
    ) {
        let start = split.index(pool.len());
        let mut model: Model = pool[..start].iter().map(|known| (known.id, Arc::clone(known))).collect();
        let mut snapshot = Snapshot::build(pool[..start].to_vec());
        let mut earlier = (snapshot.clone(), model.clone());
        let mut waiting = Vec::new();
        for (which, other, stays, publishes) in steps {
            let known = &pool[which.index(pool.len())];
            // What replaces a cloudlet is somewhere else.
            let now = stays.then(|| {
                let other = other.get(&pool);
                super::configured(CloudletInfo {
                    uuid: Some(known.id),
                    name: Some(other.name.clone()),
                    locations: Some(other.locations.clone()),
                    local_networks: Some(other.local_networks.clone()),
                    ..super::unnamed()
                })
            });
            match &now {
                Some(now) => model.insert(known.id, Arc::clone(now)),
                None => model.remove(&known.id),
            };
            waiting.push((known.id, now));
            if publishes {
                snapshot = snapshot.with(waiting.drain(..));
                same(&snapshot, &model)?;
            }
            if waiting.is_empty() && which.index(7) == 0 {
                earlier = (snapshot.clone(), model.clone());
            }
        }
        snapshot = snapshot.with(waiting);
        same(&snapshot, &model)?;
        same(&earlier.0, &earlier.1)?;
        // Compacting an earlier one and making up for what came since.
        same(&earlier.0.compacted().with(snapshot.changes_since(&earlier.0)), &model)?;
    }
}

#[test]
fn many_changes_make_a_new_index_due() {
    let few: Vec<_> = (0..10).map(|number| known(&number.to_string(), |_| ())).collect();
    let snapshot = Snapshot::build(few.clone());
    assert!(!snapshot.with(few.iter().map(|cloudlet| (cloudlet.id, None))).is_scattered());
    let many =
        (0..5_000).map(|number| known(&number.to_string(), |_| ())).map(|cloudlet| (cloudlet.id, Some(cloudlet)));
    let scattered = snapshot.with(many);
    assert!(scattered.is_scattered() && !scattered.compacted().is_scattered());
}

#[test]
fn patience_with_unsuitable_cloudlets_is_limited() {
    let closed = |number: u32| {
        known(&number.to_string(), |info| info.rejected_clients = Some(vec!["0.0.0.0/0".parse().unwrap()]))
    };
    let mut cloudlets: Vec<_> = (0..super::super::PATIENCE as u32 + 50_000).map(closed).collect();
    cloudlets.push(known("open", |_| ()));
    let world = World::new(cloudlets);
    let found = |seed| {
        let client = Client { address: "192.0.2.1".parse().unwrap(), location: None, seed };
        world.names(&[MatcherKind::Network, MatcherKind::Random], &client, &Placement::default()).len()
    };
    let counts: Vec<_> = (0..8).map(found).collect();
    assert!(counts.iter().all(|count| *count <= 1) && counts.contains(&1), "{counts:?}");
}
