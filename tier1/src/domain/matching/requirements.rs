use super::{Client, Inquiry, Matcher, Near, Objection, Verdict};
use crate::domain::{Cloudlet, Snapshot, geo};
use sinfonia_recipes::{EvaluationError, Expression, Facts};
use sinfonia_wire::Resources;

/// Drops those for which the recipe's condition does not hold.
#[derive(Debug)]
pub(super) struct Requirements;

impl Matcher for Requirements {
    fn judge(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Verdict {
        let Some(requires) = &inquiry.placement.requires else { return Verdict::Leave };
        let is_met = if inquiry.is_renewal {
            // What is known for certain may still say no.
            let facts = facts(cloudlet, inquiry, None, &Resources::new(), |facts| requires.holds(facts));
            facts != Ok(false)
        } else {
            holds(requires, cloudlet, inquiry) == Ok(true)
        };
        if is_met { Verdict::Leave } else { Verdict::Drop(Objection::Requirements) }
    }

    fn ranked<'a>(&'a self, _: &'a Snapshot, _: &'a Client) -> Box<dyn Iterator<Item = (u32, Near)> + 'a> {
        Box::new(std::iter::empty())
    }
}

/// Whether a condition holds for a cloudlet.
pub(super) fn holds(
    condition: &Expression,
    cloudlet: &Cloudlet,
    inquiry: &Inquiry<'_>,
) -> Result<bool, EvaluationError> {
    with_readings(cloudlet, inquiry, |facts| condition.holds(facts))
}

/// What an expression says about a cloudlet; the lowest number if that is unknown.
pub(super) fn score(preference: &Expression, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> f64 {
    with_readings(cloudlet, inquiry, |facts| preference.score(facts)).unwrap_or(f64::NEG_INFINITY)
}

fn with_readings<T>(cloudlet: &Cloudlet, inquiry: &Inquiry<'_>, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
    facts(cloudlet, inquiry, cloudlet.age(inquiry.now), &cloudlet.pulse().resources, ask)
}

fn facts<T>(
    cloudlet: &Cloudlet,
    inquiry: &Inquiry<'_>,
    age: Option<f64>,
    resources: &Resources,
    ask: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let from = inquiry.client.location.filter(|_| inquiry.placement.needs_distance());
    let distances = cloudlet.locations.iter().filter_map(|to| Some(geo::distance(from?, *to)));
    ask(&Facts {
        id: cloudlet.id,
        name: &cloudlet.name,
        labels: &cloudlet.labels,
        resources,
        age,
        distance: distances.reduce(f64::min),
        address: inquiry.client.address,
        location: inquiry.client.location,
    })
}
