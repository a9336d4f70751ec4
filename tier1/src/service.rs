//! What all requests share.

use crate::{
    access::Tokens,
    domain::{Chain, Client, Inquiry, Origin, Registration, Setbacks, cloudlet::Moment},
    geoip::GeoIp,
    metrics::Metrics,
    outgoing::{Limits, Outgoing, Pass},
    resolve::{AddressError, Policy, Resolver},
    routes::RateLimit,
    store::{Holdings, Registry, Store},
};
use sinfonia_credentials::TokenSource;
use sinfonia_recipes::{Placement, Repository};
use sinfonia_tls::ClientConfig;
use sinfonia_wire::{ApplicationId, CloudletInfo, Location, Network};
use std::{net::IpAddr, sync::Arc, time::Instant};

/// Knowledge and settings, the same for every thread.
#[derive(Debug)]
pub(crate) struct Service {
    /// Known cloudlets.
    pub registry: Arc<Registry>,
    /// What takes reports.
    pub store: Store,
    /// How they are chosen.
    pub chain: Chain,
    /// Who holds what.
    pub holders: Holdings,
    /// Who failed lately.
    pub setbacks: Setbacks,
    /// What can be deployed.
    pub recipes: Repository,
    /// Where addresses are.
    pub geoip: GeoIp,
    /// Whose forwarded headers count.
    pub trusted_proxies: Vec<Network>,
    /// How often one caller may ask; none: without limit.
    pub rate_limit: Option<RateLimit>,
    /// Who may do what.
    pub tokens: Arc<Tokens>,
    /// Whether there is a file of tokens, with or without any.
    pub has_tokens_file: bool,
    /// By what cloudlets know this tier1.
    pub cloudlet_token: Option<TokenSource>,
    /// Whether those without a token are let in.
    pub is_open: bool,
    /// Which reported endpoints are taken.
    pub policy: Policy,
    /// How long cloudlets may take.
    pub limits: Limits,
    /// Whom they may be certified by, where that is not the public authorities alone.
    pub trust: Option<Arc<ClientConfig>>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Service {
    /// Requests to cloudlets, for one thread.
    #[must_use]
    pub(crate) fn outgoing(&self, resolver: Resolver) -> Outgoing {
        let pass = Pass { token: self.cloudlet_token.clone(), is_open: self.is_open };
        Outgoing::new(resolver, self.policy, self.limits, self.trust.as_ref(), pass)
    }

    /// What is asked of the matchers.
    #[must_use]
    pub(crate) fn inquiry<'a>(
        &'a self,
        client: &'a Client,
        application: ApplicationId,
        placement: &'a Placement,
    ) -> Inquiry<'a> {
        let (setbacks, now) = (&self.setbacks, Instant::now());
        Inquiry { client, application, placement, setbacks, now, is_renewal: false }
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
