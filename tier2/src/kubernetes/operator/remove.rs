//! Taking away what a deployment consists of.

use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
    core::DynamicObject,
    runtime::events::EventType,
};
use sinfonia_wire::DeploymentName;

use super::{
    Operator, OperatorError,
    status::{self, Fence},
};
use crate::{
    fault,
    kubernetes::{
        api::{ApiError, api_of, delete, limited},
        crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
        decide::Decision,
        helm::access::{AccessError, deployer_access},
        objects,
    },
};

impl Operator {
    /// Peer and release go; name, addresses and namespace stay, for a client that comes back.
    pub(super) async fn withdraw(&self, object: &CloudletDeployment, decision: &Decision) -> Result<(), OperatorError> {
        let Some(status) = &object.status else { return Ok(()) };
        let mut status = status.clone();
        let expiring = if status.phase == Some(Phase::Expiring) {
            object.clone()
        } else {
            status.phase = Some(Phase::Expiring);
            status.observed_request = Some(object.spec.requested_at);
            status.expires_at = Some(decision.lease_end);
            status.message = Some("idle: being taken away".to_owned());
            status::set_ready(&mut status, object, "Expiring");
            let expiring = self.write_status(object, &status, Fence::Any).await?;
            self.tell(object, EventType::Normal, "Expiring", "idle past its lease: peer and release are taken away");
            tracing::info!(deployment = status.deployment_name.as_ref().map(DeploymentName::as_str), "expiring");
            expiring
        };
        fault::point("expiring");
        if let Some(name) = &status.deployment_name {
            delete(&self.parts.client, "delete the peer", &objects::peer_named(name)).await?;
            fault::point("peer-deleted");
            self.uninstall(name).await?;
        }
        fault::point("uninstalled");
        status.phase = Some(Phase::Withdrawn);
        status.message = Some("idle: only its name is kept".to_owned());
        status::set_ready(&mut status, object, "Withdrawn");
        self.write_status(&expiring, &status, Fence::Any).await?;
        fault::point("withdrawn");
        Ok(())
    }

    /// A release that cannot be uninstalled goes with its namespace, so that is no reason to stop.
    async fn uninstall(&self, name: &DeploymentName) -> Result<(), OperatorError> {
        let access = match deployer_access(&self.parts.client, &self.parts.server, name).await {
            Ok(access) => access,
            Err(AccessError::NoAccount { .. }) => return Ok(()),
            Err(error) if error.is_retryable() => return Err(OperatorError::Later(error.to_string())),
            Err(error) => {
                tracing::warn!(deployment = %name, %error, "not uninstalled; it goes with its namespace");
                return Ok(());
            }
        };
        match self.parts.helm.uninstall(name, &access).await {
            Err(error) if error.is_retryable() => Err(OperatorError::Later(error.to_string())),
            Err(error) => {
                tracing::warn!(deployment = %name, %error, "not uninstalled; it goes with its namespace");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Everything goes, the object last, unless a request comes in between.
    pub(super) async fn remove(&self, object: &CloudletDeployment) -> Result<(), OperatorError> {
        let mut last = object.clone();
        if let Some(status) = object.status.as_ref().filter(|status| status.phase != Some(Phase::Expired)) {
            let mut status = CloudletDeploymentStatus {
                phase: Some(Phase::Expired),
                observed_request: Some(object.spec.requested_at),
                message: Some("being removed".to_owned()),
                ..status.clone()
            };
            status::set_ready(&mut status, object, "Expired");
            last = self.write_status(object, &status, Fence::Any).await?;
            self.tell(object, EventType::Normal, "Expired", "its lease or greatest age is over: it is removed");
        }
        fault::point("expired");
        self.remove_belongings(object).await?;
        fault::point("belongings-removed");
        let unchanged = Preconditions { uid: last.uid(), resource_version: last.resource_version() };
        let parameters = DeleteParams { preconditions: Some(unchanged), ..DeleteParams::background() };
        match limited("delete the deployment", self.api.delete(&object.name_any(), &parameters)).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => {
                self.unseen.forget(object);
                tracing::info!(deployment = object.deployment_name().map(DeploymentName::as_str), "removed");
                Ok(())
            }
        }
    }

    /// What the operator that noted a failure could not take away any more.
    pub(super) async fn clean_up(&self, object: &CloudletDeployment) -> Result<(), OperatorError> {
        if self.has_belongings(object) {
            self.remove_belongings(object).await?;
        }
        Ok(())
    }

    /// Deletes namespace and peer, without waiting for the namespace's pods to end.
    pub(super) async fn remove_belongings(&self, object: &CloudletDeployment) -> Result<(), ApiError> {
        let Some(name) = object.deployment_name() else { return Ok(()) };
        let (peer, namespace) = (objects::peer_named(name), objects::namespace_named(name));
        if self.owns_peer(object, name).await? {
            delete(&self.parts.client, "delete the peer", &peer).await?;
        }
        fault::point("peer-removed");
        if self.owns_namespace(object, name).await? {
            delete(&self.parts.client, "delete the namespace", &namespace).await?;
        }
        Ok(())
    }

    /// Whether the namespace of this name belongs to the object and stays.
    pub(super) async fn owns_namespace(
        &self,
        object: &CloudletDeployment,
        name: &DeploymentName,
    ) -> Result<bool, ApiError> {
        let manifest = objects::namespace_named(name);
        let found = limited("read the namespace", api_of(&self.parts.client, &manifest).get_opt(name.as_str())).await?;
        Ok(found.is_some_and(|found| found.metadata.deletion_timestamp.is_none() && belongs(&found, object)))
    }

    async fn owns_peer(&self, object: &CloudletDeployment, name: &DeploymentName) -> Result<bool, ApiError> {
        let manifest = objects::peer_named(name);
        let found = limited("read the peer", api_of(&self.parts.client, &manifest).get_opt(name.as_str())).await?;
        Ok(found.is_some_and(|found| belongs(&found, object)))
    }
}

fn belongs(found: &DynamicObject, object: &CloudletDeployment) -> bool {
    found.owner_references().iter().any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
}
