//! Deployments' NetworkPolicies follow the cluster: the gateway moves to another node, nodes come and go.

use std::sync::{MutexGuard, PoisonError};

use kube::ResourceExt as _;

use super::{Operator, OperatorError, install::identity};
use crate::kubernetes::{
    api::apply,
    crd::{CloudletDeployment, Phase},
    networks::Networks,
    objects,
};

impl Operator {
    /// What policies are to let in and keep off from now on.
    pub(super) fn note_networks(&self, networks: Networks) {
        *self.networks() = Some(networks);
    }

    fn networks(&self) -> MutexGuard<'_, Option<Networks>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets clients' traffic in from where it comes from now, and keeps the backend off what is the cluster's now and what
    /// `--backend-egress` does not allow any more.
    pub(super) async fn follow_networks(&self, object: &CloudletDeployment) -> Result<(), OperatorError> {
        let (Some(Phase::Deployed), Some(name)) = (object.phase(), object.deployment_name()) else { return Ok(()) };
        let Some(peer) = self.peer(name) else { return Ok(()) };
        let networks = self.networks().clone();
        let around = networks.map(|networks| self.surroundings(object, networks));
        let Some(around) = around.filter(|around| objects::is_outdated(peer.annotations(), around)) else {
            return Ok(());
        };
        let identity = identity(object)?;
        let client = &self.parts.client;
        apply(client, "follow the cluster's networks", &objects::network_policy(&identity, &around)).await?;
        apply(client, "note the cluster's networks", &objects::peer(object, &identity, &around)).await?;
        tracing::info!(deployment = name.as_str(), "its NetworkPolicy is that of now");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::crd::tests::object;

    #[test]
    fn the_object_and_the_networks_are_all_that_following_needs() {
        let mut object = object(7, Some(Phase::Deployed));
        let status = object.status.as_mut().unwrap();
        status.deployment_name = Some("small-cat".parse().unwrap());
        status.client_addresses = vec!["10.5.0.9".parse().unwrap()];
        status.created_at = Some(object.spec.requested_at);
        let moved = Networks { sources: vec!["198.51.100.7/32".parse().unwrap()], ..Networks::default() };
        let around = objects::tests::around(moved);
        let identity = identity(&object).unwrap();
        let policy = objects::network_policy(&identity, &around).object;
        assert_eq!(policy.namespace().as_deref(), Some("small-cat"));
        let policy = policy.data.to_string();
        assert!(policy.contains("10.5.0.9/32") && policy.contains("198.51.100.7/32"), "{policy}");
        let peer = objects::peer(&object, &identity, &around).object;
        assert_eq!(peer.name_any(), "small-cat");
        assert!(!objects::is_outdated(peer.annotations(), &around), "it would follow at every look");
        assert!(objects::is_outdated(peer.annotations(), &objects::tests::around(Networks::default())));
    }
}
