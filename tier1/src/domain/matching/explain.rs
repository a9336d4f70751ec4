//! Why candidates are where they are, and why others are none.

use super::{Candidate, Chain, Inquiry, MatcherKind, Near, Objection, order::PREFERENCE, requirements};
use crate::domain::{Cloudlet, Snapshot, setbacks::SETBACK};
use std::{collections::HashSet, sync::Arc};

/// Cloudlets that are looked at for those that are dropped.
const LOOKED_AT: usize = 1_000;

/// What is behind an answer.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The first of those that are offered.
    pub candidates: Vec<(&'a Arc<Cloudlet>, Vec<String>)>,
    /// The first of those that would have been, but for a reason.
    pub dropped: Vec<Dropped<'a>>,
}

/// A cloudlet that is not offered.
#[derive(Debug)]
pub struct Dropped<'a> {
    /// It.
    pub cloudlet: &'a Arc<Cloudlet>,
    /// A stable name for programs.
    pub code: &'static str,
    /// For people.
    pub reason: String,
}

/// Explains what `chain` makes of an inquiry, at most `most` of each.
#[must_use]
pub fn explain<'a>(chain: &'a Chain, snapshot: &'a Snapshot, inquiry: &'a Inquiry<'a>, most: usize) -> Explanation<'a> {
    let candidates = chain.candidates(snapshot, inquiry).take(most);
    let mut seen = HashSet::new();
    let ranked = chain.0.iter().flat_map(|(_, matcher)| matcher.ranked(snapshot, inquiry.client).take(LOOKED_AT));
    let known = ranked.filter(|(index, _)| seen.insert(*index)).filter_map(|(index, _)| snapshot.at(index));
    let dropped = known.filter_map(|cloudlet| {
        let (code, reason) = dropped(chain, cloudlet, inquiry)?;
        Some(Dropped { cloudlet, code, reason })
    });
    Explanation {
        candidates: candidates.map(|candidate| (candidate.cloudlet, reasons(&candidate, inquiry))).collect(),
        dropped: dropped.take(most).collect(),
    }
}

/// Code and words.
fn dropped(chain: &Chain, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Option<(&'static str, String)> {
    let address = inquiry.client.address;
    Some(match chain.objection(cloudlet, inquiry) {
        Some(Objection::Rejected) => ("client-rejected", format!("it rejects clients at {address}")),
        Some(Objection::NotAccepted) => ("client-not-accepted", format!("it accepts no clients at {address}")),
        Some(Objection::Requirements) => {
            let requires = inquiry.placement.requires.as_ref()?;
            let why = match requirements::holds(requires, cloudlet, inquiry) {
                Err(error) => format!("it cannot be told whether it meets the recipe's requires: {error}"),
                Ok(_) => "it does not meet the recipe's requires".to_owned(),
            };
            ("requires-not-met", format!("{why} ({})", requires.text()))
        }
        None if cloudlet.draining => ("draining", "it is draining and takes no new deployments".to_owned()),
        None => return None,
    })
}

fn reasons(candidate: &Candidate<'_>, inquiry: &Inquiry<'_>) -> Vec<String> {
    let mut reasons = vec![match (candidate.near, candidate.matcher) {
        (Near::Network(length), _) => {
            format!("network: the client is in one of its local networks, of length {length}")
        }
        (Near::Metres(metres), _) => format!("location: {:.1} km from the client", metres / 1e3),
        (Near::Somewhere, MatcherKind::Random) => {
            "random: by chance among those that no other matcher yields".to_owned()
        }
        (Near::Somewhere, kind) => format!("{}: yielded", kind.name()),
    }];
    if let (Some(score), Some(prefer)) = (candidate.score, &inquiry.placement.prefer) {
        let score = if score == f64::NEG_INFINITY { "unknown, the lowest score".to_owned() } else { score.to_string() };
        reasons.push(format!(
            "requirements: prefer is {score} ({}), highest first of {PREFERENCE} at a time",
            prefer.text()
        ));
    }
    if let Some(load) = candidate.load {
        let age = inquiry.now.saturating_duration_since(candidate.cloudlet.pulse().heard.at);
        let reported = match load.reported {
            Some(load) => format!("{load:.2} reported {} s ago", age.as_secs()),
            None => "unknown".to_owned(),
        };
        reasons.push(format!(
            "load: {:.2} ({reported}, {} deployments sent since), least first of those about equally near",
            load.estimate(),
            load.sent
        ));
    }
    if candidate.is_set_back {
        reasons.push(format!("set back: a deployment failed there within {} s", SETBACK.as_secs()));
    }
    reasons
}
