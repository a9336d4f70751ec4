//! Deployments follow the gateway when it moves to another node.

use std::sync::PoisonError;

use kube::ResourceExt as _;

use super::{Operator, OperatorError, install::plan};
use crate::kubernetes::{
    api::apply,
    crd::{CloudletDeployment, Phase},
    objects,
};

impl Operator {
    /// Lets clients' traffic in from where it comes from now, after the gateway has moved to another node.
    pub(super) async fn follow_gateway(&self, object: &CloudletDeployment) -> Result<(), OperatorError> {
        let (Some(Phase::Deployed), Some(name)) = (object.phase(), object.deployment_name()) else { return Ok(()) };
        let Some(peer) = self.peer(name) else { return Ok(()) };
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What was taken over from others has no policy of ours.
        let noted = peer.annotations().get(objects::SOURCES_ANNOTATION);
        if sources.is_empty() || noted.is_none_or(|noted| *noted == objects::joined(&sources)) {
            return Ok(());
        }
        let recipe = self.parts.recipes.get(&object.spec.application).await;
        let recipe = recipe.map_err(|error| {
            let code = crate::routes::recipe_code(&error).1;
            OperatorError::later(code, format!("the gateway has moved, and {error}"))
        })?;
        let around = self.surroundings(object, sources);
        let plan = plan(object, &recipe)?;
        let client = &self.parts.client;
        apply(client, "let the gateway in", &objects::network_policy(&plan, &around)).await?;
        apply(client, "note where the gateway is", &objects::peer(object, &plan, &around)).await?;
        tracing::info!(deployment = name.as_str(), "the gateway's new addresses are let in");
        Ok(())
    }
}
