//! Who is known at one moment, indexed for matching.

use crate::domain::{
    Cloudlet,
    geo::{self, Sites},
    merge::merged,
    networks::Networks,
};
use sinfonia_wire::{CloudletId, Location};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// Changes that are kept beside the big index before a new one is due, at least.
const FEW: usize = 4096;
/// And as a share of it.
const SHARE: usize = 16;

/// Known cloudlets. It never changes; a change of membership makes another one, which shares all but the latest
/// changes with it: `base` is as big as the membership and seldom made, `recent` is small and overrides it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    base: Arc<Index>,
    recent: Arc<Index>,
    /// Members of `base` that are no more, or are in `recent`.
    gone: Arc<HashSet<u32>>,
}

/// A change of membership: what a cloudlet is now, if it still is.
pub type Change = (CloudletId, Option<Arc<Cloudlet>>);

#[derive(Debug, Default)]
struct Index {
    /// Neighbours one after another, so that where they are found is together in memory.
    cloudlets: Vec<Arc<Cloudlet>>,
    /// In their order, and where each is among the cloudlets.
    ids: Vec<CloudletId>,
    by_id: Vec<u32>,
    sites: Sites,
    locals: Networks,
    /// Who is at several places.
    several: HashSet<u32>,
}

impl Index {
    fn build(mut cloudlets: Vec<Arc<Cloudlet>>) -> Self {
        cloudlets.sort_unstable_by_key(|cloudlet| cloudlet.id);
        let indexed = || (0u32..).zip(&cloudlets);
        let located = indexed().flat_map(|(index, c)| c.locations.iter().map(move |location| (index, *location)));
        let mut sites = Sites::build(located);
        let (order, by_id) = numbered(sites.all(), cloudlets.len());
        sites.renumber(|index| by_id[index as usize]);
        let local = indexed().flat_map(|(index, c)| c.local_networks.iter().map(move |network| (index, *network)));
        Self {
            ids: cloudlets.iter().map(|cloudlet| cloudlet.id).collect(),
            several: indexed().filter(|(_, c)| c.locations.len() > 1).map(|(index, _)| by_id[index as usize]).collect(),
            locals: Networks::build(local.map(|(index, network)| (by_id[index as usize], network))),
            cloudlets: order.into_iter().map(|index| Arc::clone(&cloudlets[index as usize])).collect(),
            by_id,
            sites,
        }
    }

    fn find(&self, id: CloudletId) -> Option<u32> {
        self.ids.binary_search(&id).ok().map(|place| self.by_id[place])
    }

    /// Those whose identity comes after this one, by identity, with their indices.
    fn after(&self, id: Option<CloudletId>) -> impl Iterator<Item = (u32, &Arc<Cloudlet>)> {
        let first = id.map_or(0, |id| self.ids.partition_point(|known| *known <= id));
        self.by_id[first..].iter().map(|index| (*index, &self.cloudlets[*index as usize]))
    }
}

/// The numbers below `count`, those first that are in `first`, each once; and where each is.
fn numbered(first: &[u32], count: usize) -> (Vec<u32>, Vec<u32>) {
    const NOWHERE: u32 = u32::MAX;
    let (mut order, mut places) = (Vec::with_capacity(count), vec![NOWHERE; count]);
    for number in first.iter().copied().chain(0..count as u32) {
        let place = &mut places[number as usize];
        if *place == NOWHERE {
            *place = order.len() as u32;
            order.push(number);
        }
    }
    (order, places)
}

impl Snapshot {
    /// Indexes cloudlets of different identities.
    #[must_use]
    pub fn build(cloudlets: Vec<Arc<Cloudlet>>) -> Self {
        Self { base: Arc::new(Index::build(cloudlets)), ..Self::default() }
    }

    /// The same with changes, of which the later ones count. Costs as much as there are changes beside the big index.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut recent: BTreeMap<_, _> =
            self.recent.cloudlets.iter().map(|known| (known.id, Arc::clone(known))).collect();
        let mut gone = HashSet::clone(&self.gone);
        for (id, cloudlet) in changes {
            gone.extend(self.base.find(id));
            match cloudlet {
                Some(cloudlet) => recent.insert(id, cloudlet),
                None => recent.remove(&id),
            };
        }
        let recent = Arc::new(Index::build(recent.into_values().collect()));
        Self { base: Arc::clone(&self.base), recent, gone: Arc::new(gone) }
    }

    /// Whether so much has changed that everything should be indexed anew.
    #[must_use]
    pub fn is_scattered(&self) -> bool {
        self.recent.cloudlets.len() + self.gone.len() > FEW.max(self.base.cloudlets.len() / SHARE)
    }

    /// The same members, all in the big index.
    #[must_use]
    pub fn compacted(&self) -> Self {
        Self::build(self.cloudlets().cloned().collect())
    }

    /// What became of an earlier snapshot's members up to this one, which has the same big index.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        debug_assert!(Arc::ptr_eq(&self.base, &earlier.base), "nothing is compacted meanwhile");
        let former = earlier.recent.ids.iter().copied();
        let overridden = self.gone.difference(&earlier.gone).map(|index| self.base.cloudlets[*index as usize].id);
        let touched: HashSet<CloudletId> = former.chain(overridden).chain(self.recent.ids.iter().copied()).collect();
        let now = touched.into_iter().map(|id| (id, self.get(id).cloned()));
        now.filter(|(id, now)| match (now, earlier.get(*id)) {
            (Some(now), Some(before)) => !Arc::ptr_eq(now, before),
            (now, before) => now.is_some() != before.is_some(),
        })
        .collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.base.cloudlets.len() + self.recent.cloudlets.len() - self.gone.len()
    }

    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, by identity.
    pub fn cloudlets(&self) -> impl Iterator<Item = &Arc<Cloudlet>> {
        self.cloudlets_after(None)
    }

    /// Those whose identity comes after this one, by identity.
    pub fn cloudlets_after(&self, id: Option<CloudletId>) -> impl Iterator<Item = &Arc<Cloudlet>> {
        let base = self.base.after(id).filter(|(index, _)| !self.is_gone(*index));
        merged(base, self.recent.after(id), |(_, cloudlet)| cloudlet.id).map(|(_, cloudlet)| cloudlet)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: CloudletId) -> Option<&Arc<Cloudlet>> {
        if let Some(index) = self.recent.find(id) {
            return self.recent.cloudlets.get(index as usize);
        }
        let index = self.base.find(id).filter(|index| !self.is_gone(*index))?;
        self.base.cloudlets.get(index as usize)
    }

    /// The one at an index that came from this snapshot, unless it is no more.
    #[must_use]
    pub(crate) fn at(&self, index: u32) -> Option<&Arc<Cloudlet>> {
        match (index as usize).checked_sub(self.base.cloudlets.len()) {
            Some(index) => self.recent.cloudlets.get(index),
            None => self.base.cloudlets.get(index as usize).filter(|_| !self.is_gone(index)),
        }
    }

    /// Whether the one at an index comes up at several places.
    #[must_use]
    pub(crate) fn is_at_several_places(&self, index: u32) -> bool {
        let (index, among) = match index.checked_sub(self.base.cloudlets.len() as u32) {
            Some(index) => (index, &self.recent.several),
            None => (index, &self.base.several),
        };
        among.contains(&index)
    }

    /// Every index is below this; some may belong to nobody.
    #[must_use]
    pub(crate) fn indices(&self) -> u32 {
        (self.base.cloudlets.len() + self.recent.cloudlets.len()) as u32
    }

    /// Distances from a place and the indices that are there, nearest first.
    pub(crate) fn nearest(&self, from: Location) -> impl Iterator<Item = (f64, Members<'_>)> {
        let offset = self.base.cloudlets.len() as u32;
        let nearest = geo::nearest(&self.base.sites, &self.recent.sites, from);
        nearest.map(move |(metres, is_base, members)| {
            (metres, Members { members, offset: if is_base { 0 } else { offset } })
        })
    }

    /// Lengths of local networks that hold an address and the indices that are local there, smallest network first.
    pub(crate) fn locals(&self, address: IpAddr) -> impl Iterator<Item = (u8, Members<'_>)> {
        let [base, recent] =
            [0, self.base.cloudlets.len() as u32].map(|offset| move |members| Members { members, offset });
        let base = self.base.locals.holding(address).into_iter().map(move |(length, members)| (length, base(members)));
        let recent =
            self.recent.locals.holding(address).into_iter().map(move |(length, members)| (length, recent(members)));
        merged(base, recent, |(length, _)| Reverse(*length))
    }

    fn is_gone(&self, index: u32) -> bool {
        self.gone.contains(&index)
    }
}

/// Indices of a snapshot's cloudlets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members<'a> {
    members: &'a [u32],
    offset: u32,
}

impl<'a> Members<'a> {
    /// From a start that the seed decides, round to it again.
    pub(crate) fn rotated(self, seed: u64) -> impl Iterator<Item = u32> + 'a {
        let start = (seed % self.members.len().max(1) as u64) as usize;
        let (before, after) = self.members.split_at(start);
        after.iter().chain(before).map(move |index| index + self.offset)
    }
}
