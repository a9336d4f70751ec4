//! Who is known at one moment, indexed for matching.

use crate::domain::{Cloudlet, geo::Sites, networks::Networks};
use sinfonia_wire::CloudletId;
use std::{collections::HashMap, sync::Arc};

/// Known cloudlets. It never changes; a change of membership makes another one.
#[derive(Debug, Default)]
pub struct Snapshot {
    cloudlets: Vec<Arc<Cloudlet>>,
    by_id: HashMap<CloudletId, u32>,
    sites: Sites,
    locals: Networks,
}

impl Snapshot {
    /// Indexes the cloudlets, which keep their order.
    #[must_use]
    pub fn build(cloudlets: Vec<Arc<Cloudlet>>) -> Self {
        let indexed = || (0u32..).zip(&cloudlets);
        let located = indexed().flat_map(|(index, c)| c.locations.iter().map(move |location| (index, *location)));
        let local = indexed().flat_map(|(index, c)| c.local_networks.iter().map(move |network| (index, *network)));
        Self {
            by_id: indexed().map(|(index, cloudlet)| (cloudlet.id, index)).collect(),
            sites: Sites::build(located),
            locals: Networks::build(local),
            cloudlets,
        }
    }

    /// All of them.
    #[must_use]
    pub fn cloudlets(&self) -> &[Arc<Cloudlet>] {
        &self.cloudlets
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: CloudletId) -> Option<&Arc<Cloudlet>> {
        self.by_id.get(&id).map(|index| self.at(*index))
    }

    /// The one at an index that came from this snapshot.
    #[must_use]
    pub(crate) fn at(&self, index: u32) -> &Arc<Cloudlet> {
        &self.cloudlets[index as usize]
    }

    /// Their places.
    #[must_use]
    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Their local networks.
    #[must_use]
    pub(crate) fn locals(&self) -> &Networks {
        &self.locals
    }
}
