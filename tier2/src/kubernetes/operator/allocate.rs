//! Names and client addresses: which ones a new deployment gets.
//!
//! They are allocated from what the cluster shows by the one that leads, and written into the object before anything
//! is made. In between they are reserved here, since the caches are always a little behind.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::Duration,
};

use kube::ResourceExt as _;
use sinfonia_wire::DeploymentName;

use super::{Operator, OperatorError};
use crate::{
    deployment::DeploymentId,
    kubernetes::{admission::Load, crd::CloudletDeployment, failure::Failure},
    names::unused_name,
};

/// How long one cache of deployments may be behind the other.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// What was given to objects whose status may not show it yet, by the objects' names.
#[derive(Default)]
pub(super) struct Reserved(HashMap<String, Given>);

/// A name and addresses.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) name: DeploymentName,
    pub(super) addresses: Vec<IpAddr>,
}

impl Operator {
    /// Waits until the cache has this object: what is given to one that it lacks would look free to the next.
    pub(super) async fn await_known(&self, object: &CloudletDeployment) -> Result<(), OperatorError> {
        let mut seen = self.parts.watched.subscribe(&object.name_any());
        let known = seen.wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.uid() == object.uid()));
        match tokio::time::timeout(KNOWN_WITHIN, known).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = "what the API server says of deployments comes late";
                Err(OperatorError::later("cluster-unreachable", reason))
            }
        }
    }

    /// A name and addresses for this object, which is known and gets none of the names in `refused`.
    pub(super) fn allocate(
        &self,
        object: &CloudletDeployment,
        refused: &HashSet<DeploymentName>,
    ) -> Result<Given, Failure> {
        let own = object.metadata.name.clone().unwrap_or_default();
        let all = self.parts.watched.all();
        let mut reserved = self.reserved.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let present: HashSet<&str> = all.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
        reserved.0.retain(|name, _| present.contains(name.as_str()) && *name != own);
        let given = |name: &str| reserved.0.contains_key(name);
        self.parts.admission.check(&Load::let_in(&all, &own, object.spec.client_address, given))?;

        let others = || all.iter().filter(|other| other.metadata.name.as_deref() != Some(&own));
        let mut names = self.names_taken();
        names.extend(others().filter_map(|other| other.deployment_name().map(ToString::to_string)));
        names.extend(reserved.0.values().map(|given| given.name.to_string()));
        let mut addresses: BTreeSet<IpAddr> = self.peers.state().iter().flat_map(|peer| peer_addresses(peer)).collect();
        addresses
            .extend(others().flat_map(|other| other.status.iter().flat_map(|status| status.client_addresses.clone())));
        addresses.extend(reserved.0.values().flat_map(|given| given.addresses.clone()));

        let seed = DeploymentId { application: object.spec.application, key: object.spec.key }.seed();
        let addresses = self
            .parts
            .pool
            .allocate(&addresses, seed)
            .map_err(|error| Failure::new("no-client-address-left", error.to_string()))?;
        let is_taken = |name: &DeploymentName| names.contains(name.as_str()) || refused.contains(name);
        let given = Given { name: unused_name(&mut rand::rng(), is_taken), addresses };
        reserved.0.insert(own, given.clone());
        Ok(given)
    }
}

/// The addresses of a peer, ours or not.
pub(super) fn peer_addresses(peer: &kube::core::DynamicObject) -> Vec<IpAddr> {
    let nets = peer.data.pointer("/spec/allowedIPs").and_then(serde_json::Value::as_array);
    let text = nets.into_iter().flatten().filter_map(serde_json::Value::as_str);
    text.filter_map(|net| net.parse::<ipnet::IpNet>().ok()).map(|net| net.addr()).collect()
}
