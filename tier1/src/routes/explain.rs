//! The answer to `GET deploy?explain=true`.

use crate::{
    domain::{Client, Cloudlet, Inquiry, MatcherKind, matching},
    outgoing::Errand,
    service::Service,
};
use serde::Serialize;
use sinfonia_recipes::Placement;
use sinfonia_wire::{CloudletId, CloudletInfo};
use std::sync::Arc;
use utoipa::ToSchema;

/// Cloudlets of each kind that are listed at most.
const LISTED: usize = 20;

/// Why a client would be sent where.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Explanation {
    /// Matchers in force, in their order.
    matchers: Vec<&'static str>,
    /// Number of known cloudlets.
    known: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    requires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer: Option<String>,
    /// In the order in which they are asked; at most 20.
    candidates: Vec<Listed>,
    /// Those that would have come first otherwise; at most 20.
    dropped: Vec<Dropped>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExplainedCandidate)]
struct Listed {
    #[schema(value_type = CloudletInfo)]
    cloudlet: Arc<Cloudlet>,
    /// Seconds since it reported its resources; absent for those that do not report.
    #[serde(skip_serializing_if = "Option::is_none")]
    resources_age: Option<f64>,
    reasons: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DroppedCloudlet)]
struct Dropped {
    uuid: CloudletId,
    name: String,
    code: &'static str,
    reason: String,
}

/// Explains without choosing any.
pub(super) fn explain(service: &Service, client: &Client, errand: &Errand, placement: &Placement) -> Explanation {
    let snapshot = service.registry.snapshot();
    let inquiry = service.inquiry(client, errand.application, placement);
    let renewal = Inquiry { is_renewal: true, ..inquiry };
    let explained = matching::explain(&service.chain, &snapshot, &inquiry, LISTED);
    let holding = service.holders.get(&(errand.application, errand.key)).chosen;
    let held = holding.iter().filter_map(|id| snapshot.get(*id)).filter(|known| service.chain.offers(known, &renewal));
    let held = held.map(|cloudlet| {
        let known = explained.candidates.iter().find(|(candidate, _)| candidate.id == cloudlet.id);
        let mut reasons = vec!["it holds the client's deployment, or is being asked for it".to_owned()];
        reasons.extend(known.into_iter().flat_map(|(_, reasons)| reasons.iter().cloned()));
        (cloudlet, reasons)
    });
    let others = explained.candidates.iter().filter(|(candidate, _)| !holding.contains(&candidate.id));
    let all = held.chain(others.map(|(candidate, reasons)| (*candidate, reasons.clone())));
    Explanation {
        matchers: service.chain.kinds().map(MatcherKind::name).collect(),
        known: snapshot.len(),
        requires: placement.requires.as_ref().map(|expression| expression.text().to_owned()),
        prefer: placement.prefer.as_ref().map(|expression| expression.text().to_owned()),
        candidates: all
            .take(LISTED)
            .map(|(cloudlet, reasons)| Listed {
                cloudlet: Arc::clone(cloudlet),
                resources_age: cloudlet.age(inquiry.now),
                reasons,
            })
            .collect(),
        dropped: explained
            .dropped
            .into_iter()
            .map(|dropped| Dropped {
                uuid: dropped.cloudlet.id,
                name: dropped.cloudlet.name.clone(),
                code: dropped.code,
                reason: dropped.reason,
            })
            .collect(),
    }
}
