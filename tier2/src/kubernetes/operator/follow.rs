//! Deployments' NetworkPolicies follow the cluster: the gateway moves to another node, nodes come and go.

use std::sync::PoisonError;

use kube::ResourceExt as _;

use super::{Operator, OperatorError, install::plan};
use crate::kubernetes::{
    api::apply,
    crd::{CloudletDeployment, Phase},
    objects,
};

impl Operator {
    /// Lets clients' traffic in from where it comes from now, and keeps the backend off what is the cluster's now.
    pub(super) async fn follow_networks(&self, object: &CloudletDeployment) -> Result<(), OperatorError> {
        let (Some(Phase::Deployed), Some(name)) = (object.phase(), object.deployment_name()) else { return Ok(()) };
        let Some(peer) = self.peer(name) else { return Ok(()) };
        let networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(networks) = networks.filter(|networks| objects::is_outdated(peer.annotations(), networks)) else {
            return Ok(());
        };
        let recipe = self.parts.recipes.get(&object.spec.application).await;
        let recipe = recipe.map_err(|error| {
            let code = crate::routes::recipe_code(&error).1;
            OperatorError::later(code, format!("the cluster's networks have changed, and {error}"))
        })?;
        let around = self.surroundings(object, networks);
        let plan = plan(object, &recipe)?;
        let client = &self.parts.client;
        apply(client, "follow the cluster's networks", &objects::network_policy(&plan, &around)).await?;
        apply(client, "note the cluster's networks", &objects::peer(object, &plan, &around)).await?;
        tracing::info!(deployment = name.as_str(), "its NetworkPolicy follows the cluster's networks");
        Ok(())
    }
}
