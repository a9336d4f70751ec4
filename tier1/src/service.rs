//! What all requests share.

use crate::{
    domain::{Chain, Holders, Origin, Registration, cloudlet::Moment},
    geoip::GeoIp,
    metrics::Metrics,
    outgoing::{Limits, Outgoing},
    resolve::{AddressError, Policy, Resolver},
    store::Registry,
};
use sinfonia_recipes::Repository;
use sinfonia_wire::{CloudletInfo, Location, Network};
use std::{net::IpAddr, sync::Arc};

/// Knowledge and settings, the same for every thread.
#[derive(Debug)]
pub(crate) struct Service {
    /// Known cloudlets.
    pub registry: Arc<Registry>,
    /// How they are chosen.
    pub chain: Chain,
    /// Who holds what.
    pub holders: Holders,
    /// What can be deployed.
    pub recipes: Repository,
    /// Where addresses are.
    pub geoip: GeoIp,
    /// Whose forwarded headers count.
    pub trusted_proxies: Vec<Network>,
    /// Which reported endpoints are taken.
    pub policy: Policy,
    /// How long cloudlets may take.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Metrics,
}

impl Service {
    /// Requests to cloudlets, for one thread.
    #[must_use]
    pub(crate) fn outgoing(&self, resolver: Resolver) -> Outgoing {
        Outgoing::new(resolver, self.policy, self.limits)
    }
}

/// Finds out what a registration needs beside what the cloudlet says.
///
/// # Errors
/// When the endpoint is not allowed, or cannot be resolved and that matters.
pub(crate) async fn registration(
    info: CloudletInfo,
    origin: Origin,
    resolver: &Resolver,
    policy: Policy,
    geoip: &GeoIp,
) -> Result<Registration, AddressError> {
    let heard = Moment::now();
    let addresses = match resolver.endpoint(&info.endpoint, policy).await {
        Err(AddressError::Unresolved { .. }) if matches!(policy, Policy::Any) => Vec::new(),
        found => found?,
    };
    let places = places(&addresses, geoip);
    Ok(Registration { info, origin, addresses, places, heard })
}

fn places(addresses: &[IpAddr], geoip: &GeoIp) -> Vec<Location> {
    let mut places = Vec::new();
    for place in addresses.iter().filter_map(|address| geoip.locate(*address)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}
