use super::{Client, Inquiry, Matcher, Near, Objection, Verdict};
use crate::domain::{Cloudlet, Snapshot};
use sinfonia_wire::Network as Net;
use std::collections::HashSet;

/// Rejected clients are dropped, local ones preferred, and those that are not accepted dropped, in that order.
#[derive(Debug)]
pub(super) struct Network;

impl Matcher for Network {
    fn judge(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Verdict {
        let holds = |networks: &[Net]| networks.iter().any(|network| network.contains(inquiry.client.address));
        if holds(&cloudlet.rejected_clients) {
            Verdict::Drop(Objection::Rejected)
        } else if holds(&cloudlet.local_networks) {
            Verdict::Yield
        } else if !cloudlet.accepted_clients.is_empty() && !holds(&cloudlet.accepted_clients) {
            Verdict::Drop(Objection::NotAccepted)
        } else {
            Verdict::Leave
        }
    }

    /// The smaller the network, the closer the cloudlet; equals in an order that differs from client to client.
    fn ranked<'a>(&'a self, snapshot: &'a Snapshot, client: &'a Client) -> Box<dyn Iterator<Item = (u32, Near)> + 'a> {
        let mut seen = HashSet::new();
        let locals = snapshot.locals(client.address).flat_map(|(length, members)| {
            members.rotated(client.seed).map(move |index| (index, Near::Network(length)))
        });
        Box::new(locals.filter(move |(index, _)| seen.insert(*index)))
    }
}
