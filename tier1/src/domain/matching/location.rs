use super::{Client, Inquiry, Matcher, Near, Verdict};
use crate::domain::{Cloudlet, Snapshot};
use std::collections::HashSet;

/// Cloudlets by geodesic distance of their nearest location; those without one are left.
#[derive(Debug)]
pub(super) struct Location;

impl Matcher for Location {
    fn judge(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Verdict {
        let is_placed = inquiry.client.location.is_some() && !cloudlet.locations.is_empty();
        if is_placed { Verdict::Yield } else { Verdict::Leave }
    }

    /// Those at the same place in an order that differs from client to client.
    fn ranked<'a>(&'a self, snapshot: &'a Snapshot, client: &'a Client) -> Box<dyn Iterator<Item = (u32, Near)> + 'a> {
        let Some(from) = client.location else {
            return Box::new(std::iter::empty());
        };
        let mut seen = HashSet::new();
        let nearest = snapshot
            .nearest(from)
            .flat_map(|(metres, members)| members.rotated(client.seed).map(move |index| (index, Near::Metres(metres))));
        Box::new(nearest.filter(move |(index, _)| !snapshot.is_at_several_places(*index) || seen.insert(*index)))
    }
}
