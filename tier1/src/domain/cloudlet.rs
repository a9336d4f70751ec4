//! A cloudlet as matching sees it.

use crate::domain::{
    addresses,
    load::{Load, Pulse},
};
use serde::{Serialize, Serializer};
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint, Location, Network, Resources, timestamp};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Not,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use thiserror::Error;
use time::OffsetDateTime;

/// A cloudlet that reported and then is silent for longer is dropped.
pub const SILENCE: Duration = Duration::from_secs(300);

/// Where knowledge of a cloudlet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Listed by the operator; stays.
    Configured,
    /// From its own reports; goes when they stop.
    Reported,
}

/// All that is needed to make a [`Cloudlet`]: what it says, and what was found out about its endpoint.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What the report or the file says.
    pub info: CloudletInfo,
    /// Which of the two.
    pub origin: Origin,
    /// Addresses of the endpoint's host.
    pub addresses: Vec<IpAddr>,
    /// Where those addresses are, as far as known.
    pub places: Vec<Location>,
    /// When it was heard of.
    pub heard: Moment,
}

/// One instant on both clocks: the monotonic one to measure silence, the calendar one to show.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For differences.
    pub at: Instant,
    /// For people.
    pub date: OffsetDateTime,
}

impl Moment {
    /// This instant.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), date: OffsetDateTime::now_utc() }
    }
}

/// Why there is no cloudlet in a registration.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RegistrationError {
    /// Nothing to know it by.
    #[error("missing uuid: a report names its cloudlet by a `uuid` that stays the same")]
    NoUuid,
}

/// A cloudlet with every default applied. What it is does not change; how it is doing ([`Pulse`]) does.
///
/// In the order of the fields, so that what every choice looks at is in few of the processor's cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Cloudlet {
    /// Where it is; may be empty.
    pub locations: Vec<Location>,
    /// Clients in these networks are local to it.
    pub local_networks: Vec<Network>,
    /// Clients in these networks are not served.
    pub rejected_clients: Vec<Network>,
    /// If not empty, only clients in one of these are served.
    pub accepted_clients: Arc<[Network]>,
    /// Whether it takes no new deployments.
    pub draining: bool,
    /// Whether its endpoint is at addresses of private networks or this machine only.
    pub is_near: bool,
    /// Where it is known from.
    pub origin: Origin,
    pulse: Mutex<Pulse>,
    /// Its identity.
    pub id: CloudletId,
    /// Its readable name.
    pub name: String,
    /// Where deployments are asked for.
    pub endpoint: DeployEndpoint,
    /// Free-form properties.
    pub labels: BTreeMap<String, String>,
    declared: u64,
}

/// A [`CloudletInfo`] of what others are told, written without a copy of every text first.
#[derive(Serialize)]
#[serde(rename = "CloudletInfo")]
struct Told<'a> {
    uuid: CloudletId,
    name: &'a str,
    endpoint: &'a DeployEndpoint,
    locations: &'a [Location],
    accepted_clients: &'a [Network],
    rejected_clients: &'a [Network],
    resources: Resources,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Not::not")]
    draining: bool,
    #[serde(skip_serializing_if = "Option::is_none", with = "timestamp::option")]
    last_update: Option<OffsetDateTime>,
}

/// What others are told about it.
impl Serialize for Cloudlet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pulse = self.pulse();
        let told = Told {
            uuid: self.id,
            name: &self.name,
            endpoint: &self.endpoint,
            locations: &self.locations,
            accepted_clients: &self.accepted_clients,
            rejected_clients: &self.rejected_clients,
            resources: pulse.resources,
            labels: &self.labels,
            draining: self.draining,
            last_update: (self.origin == Origin::Reported).then_some(pulse.heard.date),
        };
        told.serialize(serializer)
    }
}

impl TryFrom<Registration> for Cloudlet {
    type Error = RegistrationError;

    fn try_from(registration: Registration) -> Result<Self, RegistrationError> {
        let Registration { info, origin, addresses, places, heard } = registration;
        let id = info.uuid.ok_or(RegistrationError::NoUuid)?;
        let own_networks =
            || addresses.iter().filter(|address| addresses::is_global(**address)).map(|a| Network::from(*a)).collect();
        let declared = declared(&info, origin);
        let is_near = !addresses.is_empty() && !addresses.iter().any(|address| addresses::is_global(*address));
        Ok(Self {
            id,
            name: info.name.unwrap_or_else(|| info.endpoint.host().to_owned()),
            endpoint: info.endpoint,
            locations: info.locations.unwrap_or(places),
            local_networks: info.local_networks.unwrap_or_else(own_networks),
            accepted_clients: info.accepted_clients.map_or_else(everyone, Arc::from),
            rejected_clients: info.rejected_clients.unwrap_or_default(),
            labels: info.labels,
            draining: info.draining,
            is_near,
            origin,
            declared,
            pulse: Mutex::new(Pulse::new(info.resources, heard)),
        })
    }
}

impl Cloudlet {
    /// Whether a report says nothing new except its load, so that it needs no registration.
    #[must_use]
    pub fn is_declared_by(&self, info: &CloudletInfo, origin: Origin) -> bool {
        self.declared == declared(info, origin)
    }

    /// Takes note of a report.
    pub fn beat(&self, resources: Resources, heard: Moment) {
        self.lock().renew(resources, heard);
    }

    /// Takes note of a report, unless a later one is known.
    pub(crate) fn renew(&self, resources: Resources, heard: Moment) {
        let mut pulse = self.lock();
        if pulse.heard.date < heard.date {
            pulse.renew(resources, heard);
        }
    }

    /// Goes on where `former`, the same cloudlet under another description, was, also if that heard later reports.
    pub(crate) fn inherit(&self, former: &Self) {
        let (former, mut pulse) = (former.pulse(), self.lock());
        pulse.go_on(&former);
        if pulse.heard.date < former.heard.date {
            (pulse.resources, pulse.heard) = (former.resources, former.heard);
        }
    }

    /// Remembers what was sent to `former`, the same cloudlet in a state of knowledge that counts no more.
    pub(crate) fn go_on(&self, former: &Self) {
        let former = former.pulse();
        self.lock().go_on(&former);
    }

    /// How busy it is at `now`.
    #[must_use]
    pub fn load(&self, now: Instant) -> Load {
        self.lock().load(now, self.origin == Origin::Configured)
    }

    /// Seconds since it reported, if it does.
    #[must_use]
    pub fn age(&self, now: Instant) -> Option<f64> {
        let age = now.saturating_duration_since(self.lock().heard.at);
        (self.origin == Origin::Reported).then_some(age.as_secs_f64())
    }

    /// How it was doing at its last report.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.lock().clone()
    }

    /// Whether it reported once but has been silent for too long at `now`.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silence(now).is_some_and(|silence| silence > SILENCE)
    }

    /// How long it has been silent at `now`; none if it never reported.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        (self.origin == Origin::Reported).then(|| now.saturating_duration_since(self.lock().heard.at))
    }

    /// Has the processor fetch what every choice looks at: for several at once that takes hardly longer than for one.
    pub(super) fn touch(&self) {
        black_box((self.locations.len(), self.draining, self.pulse.is_poisoned()));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One list for all whom everybody may use, which are most: it stays in the processor's cache.
fn everyone() -> Arc<[Network]> {
    static EVERYONE: LazyLock<Arc<[Network]>> = LazyLock::new(|| {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        any.into_iter().map(|address| Network::from(ipnet::IpNet::new_assert(address, 0))).collect()
    });
    Arc::clone(&EVERYONE)
}

/// A digest of what a cloudlet declares, load and time left out.
fn declared(info: &CloudletInfo, origin: Origin) -> u64 {
    let mut hasher = DefaultHasher::new();
    let CloudletInfo { uuid, name, endpoint, locations, .. } = info;
    (uuid, name, endpoint, origin == Origin::Configured).hash(&mut hasher);
    for location in locations.iter().flatten() {
        (location.lat().to_bits(), location.lon().to_bits()).hash(&mut hasher);
    }
    (locations.is_some(), &info.local_networks, &info.accepted_clients, &info.rejected_clients).hash(&mut hasher);
    (&info.labels, info.draining).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_all_but_which_networks_are_local() {
        let heard = Moment::now();
        let told = |info: &CloudletInfo, origin| {
            let registration = Registration { info: info.clone(), origin, addresses: vec![], places: vec![], heard };
            serde_json::to_string(&Cloudlet::try_from(registration).unwrap()).unwrap()
        };
        let endpoint = "http://192.0.2.1/api/v1/deploy".parse().unwrap();
        let mut info = CloudletInfo { uuid: Some(CloudletId::random()), ..CloudletInfo::new(endpoint) };
        let mut expected = CloudletInfo {
            name: Some("192.0.2.1".to_owned()),
            locations: Some(vec![]),
            accepted_clients: Some(["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap()).to_vec()),
            rejected_clients: Some(vec![]),
            ..info.clone()
        };
        assert_eq!(told(&info, Origin::Configured), serde_json::to_string(&expected).unwrap());

        info.name = Some("full \"α\"".to_owned());
        info.locations = Some(vec![Location::new(40.44, -79.95).unwrap(), Location::new(0.0, 180.0).unwrap()]);
        info.accepted_clients = Some(vec!["2001:db8::/32".parse().unwrap()]);
        info.rejected_clients = Some(vec!["192.0.2.0/24".parse().unwrap()]);
        info.resources.insert(Resources::CPU_RATIO, 0.25).unwrap();
        info.labels.insert("tier".to_owned(), "\n".to_owned());
        info.draining = true;
        expected = CloudletInfo { last_update: Some(heard.date), ..info.clone() };
        info.local_networks = Some(vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(told(&info, Origin::Reported), serde_json::to_string(&expected).unwrap());
    }
}
