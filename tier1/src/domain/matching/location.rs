use super::{Client, Matcher, Verdict};
use crate::domain::{Cloudlet, Snapshot};
use std::collections::HashSet;

/// Cloudlets by geodesic distance of their nearest location; those without one are left.
#[derive(Debug)]
pub(super) struct Location;

impl Matcher for Location {
    fn judge(&self, cloudlet: &Cloudlet, client: &Client) -> Verdict {
        if client.location.is_some() && !cloudlet.locations.is_empty() { Verdict::Yield } else { Verdict::Leave }
    }

    /// Those at the same place in an order that differs from client to client.
    fn ranked<'a>(&'a self, snapshot: &'a Snapshot, client: &'a Client) -> Box<dyn Iterator<Item = u32> + 'a> {
        let Some(from) = client.location else {
            return Box::new(std::iter::empty());
        };
        let mut seen = HashSet::new();
        let nearest = snapshot.sites().nearest(from).flat_map(|(_, site)| super::rotated(&site.members, client.seed));
        // Only cloudlets with several locations come up again.
        Box::new(nearest.filter(move |index| snapshot.at(*index).locations.len() < 2 || seen.insert(*index)))
    }
}
