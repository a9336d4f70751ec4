//! Which cloudlets are offered to a client, best first.
//!
//! Matchers work in the order the operator chose. Each yields the cloudlets it prefers and may drop others; what it
//! leaves is for the next. A matcher judges one cloudlet at a time and lists its favourites lazily, so that the first
//! few of a million cost as much as the first few of ten.

mod location;
mod network;
mod random;
#[cfg(test)]
mod tests;

use crate::domain::{Cloudlet, Snapshot};
use sinfonia_wire::Location;
use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};
use thiserror::Error;

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

/// What a matcher says to one cloudlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is offered.
    Yield,
    /// The next matcher decides.
    Leave,
    /// It is not offered.
    Drop,
}

/// One rule of preference.
pub trait Matcher: fmt::Debug + Send + Sync {
    /// What is said to one cloudlet.
    fn judge(&self, cloudlet: &Cloudlet, client: &Client) -> Verdict;

    /// Indices of all cloudlets it yields, best first, each once. Others may be among them.
    fn ranked<'a>(&'a self, snapshot: &'a Snapshot, client: &'a Client) -> Box<dyn Iterator<Item = u32> + 'a>;
}

/// The matchers that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatcherKind {
    /// By the client's network.
    Network,
    /// By distance.
    Location,
    /// By chance.
    Random,
}

impl MatcherKind {
    /// Every matcher, in the default order.
    pub const ALL: [Self; 3] = [Self::Network, Self::Location, Self::Random];

    /// The name by which it is chosen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Location => "location",
            Self::Random => "random",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Network => "drops cloudlets that do not serve the client's network, yields those local to it",
            Self::Location => "yields cloudlets by distance from the client",
            Self::Random => "yields the rest in random order",
        }
    }

    fn matcher(self) -> Box<dyn Matcher> {
        match self {
            Self::Network => Box::new(network::Network),
            Self::Location => Box::new(location::Location),
            Self::Random => Box::new(random::Random),
        }
    }
}

/// No matcher has that name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown matcher {0:?}; choose from network, location, random")]
pub struct UnknownMatcher(String);

impl FromStr for MatcherKind {
    type Err = UnknownMatcher;

    fn from_str(name: &str) -> Result<Self, UnknownMatcher> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownMatcher(name.to_owned()))
    }
}

/// Matchers one after another.
#[derive(Debug)]
pub struct Chain(Vec<Box<dyn Matcher>>);

impl Chain {
    /// The matchers in their order.
    #[must_use]
    pub fn new(kinds: &[MatcherKind]) -> Self {
        Self(kinds.iter().map(|kind| kind.matcher()).collect())
    }

    /// The cloudlets to offer, best first, found as they are asked for.
    pub fn candidates<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        client: &'a Client,
    ) -> impl Iterator<Item = &'a Arc<Cloudlet>> {
        self.0.iter().enumerate().flat_map(move |(turn, matcher)| {
            let ranked = matcher.ranked(snapshot, client).map(|index| snapshot.at(index));
            // A cloudlet belongs to the first matcher that does not leave it: that is what makes each appear once.
            ranked.filter(move |cloudlet| !cloudlet.draining && self.decision(cloudlet, client) == Some((turn, true)))
        })
    }

    /// Whether a cloudlet is among the candidates, new deployments or not.
    #[must_use]
    pub fn offers(&self, cloudlet: &Cloudlet, client: &Client) -> bool {
        matches!(self.decision(cloudlet, client), Some((_, true)))
    }

    /// Whether a matcher refuses the cloudlet to the client.
    #[must_use]
    pub fn drops(&self, cloudlet: &Cloudlet, client: &Client) -> bool {
        matches!(self.decision(cloudlet, client), Some((_, false)))
    }

    /// Which matcher decides about a cloudlet, and whether it is offered.
    fn decision(&self, cloudlet: &Cloudlet, client: &Client) -> Option<(usize, bool)> {
        self.0.iter().enumerate().find_map(|(turn, matcher)| match matcher.judge(cloudlet, client) {
            Verdict::Yield => Some((turn, true)),
            Verdict::Drop => Some((turn, false)),
            Verdict::Leave => None,
        })
    }
}

/// The members from a start that the seed decides, round to it again.
fn rotated(members: &[u32], seed: u64) -> impl Iterator<Item = u32> {
    let start = (seed % members.len().max(1) as u64) as usize;
    let (before, after) = members.split_at(start);
    after.iter().chain(before).copied()
}
