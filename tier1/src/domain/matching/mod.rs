//! Which cloudlets are offered to a client, best first.
//!
//! Matchers work in the order the operator chose. Each yields the cloudlets it prefers and may drop others; what it
//! leaves is for the next. A matcher judges one cloudlet at a time and lists its favourites lazily, so that the first
//! few of a million cost as much as the first few of ten. Two matchers yield nothing but change how later ones work:
//! `requirements` drops and ranks by the recipe's expressions, `load` spreads clients among those about equally near.

mod explain;
mod load;
mod location;
mod network;
mod order;
mod random;
mod requirements;
#[cfg(test)]
mod tests;

pub use explain::{Dropped, Explanation, explain};

use crate::domain::{Cloudlet, Setbacks, Snapshot, load::Load};
use sinfonia_recipes::Placement;
use sinfonia_wire::{ApplicationId, Location};
use std::{fmt, net::IpAddr, str::FromStr, sync::Arc, time::Instant};
use thiserror::Error;

/// How many cloudlets each matcher looks at for one client at most, so that one who suits hardly any of a million does not hold up others.
const PATIENCE: usize = 100_000;
/// Cloudlets fetched from memory at once where no more are compared.
const AHEAD: usize = 4;
/// What evaluating an expression counts for, beside 1 for everything else about a cloudlet.
const EXPRESSION: usize = 9;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Where it is, if known.
    pub location: Option<Location>,
    /// Decides what chance decides, so that matching itself is reproducible.
    pub seed: u64,
}

/// All that decides about candidates beside the cloudlets themselves.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// For whom.
    pub client: &'a Client,
    /// What is to be deployed.
    pub application: ApplicationId,
    /// What its recipe says about where.
    pub placement: &'a Placement,
    /// Who failed lately.
    pub setbacks: &'a Setbacks,
    /// Now.
    pub now: Instant,
    /// Whether it is there already: then readings of the load, to which it adds itself, do not send it away.
    pub is_renewal: bool,
}

/// What a matcher says to one cloudlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is offered.
    Yield,
    /// The next matcher decides.
    Leave,
    /// It is not offered.
    Drop(Objection),
}

/// Why a cloudlet is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The client is in a network that it rejects.
    Rejected,
    /// The client is in none of the networks that it accepts.
    NotAccepted,
    /// The recipe's condition does not hold, or nobody knows.
    Requirements,
}

/// How near a cloudlet is to a client, in the terms of the matcher that yields it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Near {
    /// In a network of this length.
    Network(u8),
    /// At this geodesic distance in metres.
    Metres(f64),
    /// Nobody knows.
    Somewhere,
}

/// One rule of preference.
pub trait Matcher: fmt::Debug + Send + Sync {
    /// What is said to one cloudlet.
    fn judge(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Verdict;

    /// Indices of all cloudlets it yields, best first, each once. Others may be among them.
    fn ranked<'a>(&'a self, snapshot: &'a Snapshot, client: &'a Client) -> Box<dyn Iterator<Item = (u32, Near)> + 'a>;
}

/// The matchers that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatcherKind {
    /// By what the recipe says.
    Requirements,
    /// By load.
    Load,
    /// By the client's network.
    Network,
    /// By distance.
    Location,
    /// By chance.
    Random,
}

impl MatcherKind {
    /// Every matcher, in the default order.
    pub const ALL: [Self; 5] = [Self::Requirements, Self::Load, Self::Network, Self::Location, Self::Random];

    /// The name by which it is chosen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requirements => "requirements",
            Self::Load => "load",
            Self::Network => "network",
            Self::Location => "location",
            Self::Random => "random",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Requirements => {
                "drops cloudlets that do not meet the recipe's `requires`, ranks those of later matchers by its `prefer`"
            }
            Self::Load => "spreads clients by load among cloudlets that later matchers find about equally near",
            Self::Network => "drops cloudlets that do not serve the client's network, yields those local to it",
            Self::Location => "yields cloudlets by distance from the client",
            Self::Random => "yields the rest in random order",
        }
    }

    fn matcher(self) -> Box<dyn Matcher> {
        match self {
            Self::Requirements => Box::new(requirements::Requirements),
            Self::Load => Box::new(load::Load),
            Self::Network => Box::new(network::Network),
            Self::Location => Box::new(location::Location),
            Self::Random => Box::new(random::Random),
        }
    }
}

/// No matcher has that name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown matcher {0:?}; choose from requirements, load, network, location, random")]
pub struct UnknownMatcher(String);

impl FromStr for MatcherKind {
    type Err = UnknownMatcher;

    fn from_str(name: &str) -> Result<Self, UnknownMatcher> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownMatcher(name.to_owned()))
    }
}

/// A cloudlet to offer, with what put it where it is.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// It.
    pub cloudlet: &'a Arc<Cloudlet>,
    /// The matcher that yields it.
    pub matcher: MatcherKind,
    /// How near it is.
    pub near: Near,
    /// What the recipe's `prefer` gives it, if that is asked.
    pub score: Option<f64>,
    /// Its load, if that is asked.
    pub load: Option<Load>,
    /// Whether it failed lately, so that others come before it.
    pub is_set_back: bool,
}

/// Matchers one after another.
#[derive(Debug)]
pub struct Chain(Vec<(MatcherKind, Box<dyn Matcher>)>);

impl Chain {
    /// The matchers in their order.
    #[must_use]
    pub fn new(kinds: &[MatcherKind]) -> Self {
        Self(kinds.iter().map(|kind| (*kind, kind.matcher())).collect())
    }

    /// Their names.
    pub fn kinds(&self) -> impl Iterator<Item = MatcherKind> {
        self.0.iter().map(|(kind, _)| *kind)
    }

    /// The cloudlets to offer, best first, found as they are asked for.
    pub fn candidates<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        inquiry: &'a Inquiry<'a>,
    ) -> impl Iterator<Item = Candidate<'a>> {
        order::with_set_back_later((0..self.0.len()).flat_map(move |turn| self.stage(turn, snapshot, inquiry)))
    }

    /// What one matcher yields.
    fn stage<'a>(
        &'a self,
        turn: usize,
        snapshot: &'a Snapshot,
        inquiry: &'a Inquiry<'a>,
    ) -> Box<dyn Iterator<Item = Candidate<'a>> + 'a> {
        let (kind, matcher) = &self.0[turn];
        let comes_first = |wanted| self.0[..turn].iter().any(|(kind, _)| *kind == wanted);
        let requires = comes_first(MatcherKind::Requirements) && inquiry.placement.requires.is_some();
        let cost = if requires { 1 + EXPRESSION } else { 1 };
        let ranked = matcher.ranked(snapshot, inquiry.client).take(PATIENCE / cost);
        let prefers = inquiry.placement.prefer.as_ref().filter(|_| comes_first(MatcherKind::Requirements));
        let spreads = comes_first(MatcherKind::Load);
        let compared = match (prefers, spreads) {
            (Some(_), _) => order::PREFERENCE,
            (None, true) => order::SPREAD,
            (None, false) => AHEAD,
        };
        let known = order::in_groups(
            ranked.filter_map(|(index, near)| Some((snapshot.at(index)?, near))),
            compared,
            |_, _| true,
            |group| group.iter().for_each(|(cloudlet, _)| cloudlet.touch()),
        );
        let offered = known.filter(move |(cloudlet, _)| {
            // A cloudlet belongs to the first matcher that does not leave it: that is what makes each appear once.
            !cloudlet.draining && self.decision(cloudlet, inquiry) == Some((turn, Verdict::Yield))
        });
        let candidates = offered.map(move |(cloudlet, near)| Candidate {
            cloudlet,
            matcher: *kind,
            near,
            score: None,
            load: None,
            is_set_back: inquiry.setbacks.holds(cloudlet.id, inquiry.application, inquiry.now),
        });
        match (prefers, spreads) {
            (Some(prefer), true) => Box::new(order::by_load(order::by_score(candidates, prefer, inquiry), inquiry)),
            (Some(prefer), false) => Box::new(order::by_score(candidates, prefer, inquiry)),
            (None, true) => Box::new(order::by_load(candidates, inquiry)),
            (None, false) => Box::new(candidates),
        }
    }

    /// Whether a cloudlet is among the candidates, new deployments or not.
    #[must_use]
    pub fn offers(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> bool {
        matches!(self.decision(cloudlet, inquiry), Some((_, Verdict::Yield)))
    }

    /// Why a cloudlet is refused to the client, if it is.
    #[must_use]
    pub fn objection(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Option<Objection> {
        match self.decision(cloudlet, inquiry) {
            Some((_, Verdict::Drop(objection))) => Some(objection),
            _ => None,
        }
    }

    /// Which matcher decides about a cloudlet, and how.
    fn decision(&self, cloudlet: &Cloudlet, inquiry: &Inquiry<'_>) -> Option<(usize, Verdict)> {
        let verdicts = self.0.iter().map(|(_, matcher)| matcher.judge(cloudlet, inquiry));
        verdicts.enumerate().find(|(_, verdict)| *verdict != Verdict::Leave)
    }
}
