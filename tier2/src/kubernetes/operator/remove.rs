//! Taking away what a deployment consists of.

use std::time::Duration;

use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
    core::DynamicObject,
    runtime::events::EventType,
};
use sinfonia_wire::DeploymentName;

use super::{
    Operator, OperatorError,
    status::{self, retrying_for},
};
use crate::{
    fault,
    kubernetes::{
        api::{ApiError, api_of, delete, limited},
        crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
        decide::Decision,
        failure::Failure,
        helm::access::{AccessError, deployer_access},
        objects,
    },
};

/// For how long it is tried to uninstall a release.
const UNINSTALL_TRIED: Duration = Duration::from_secs(120);

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
            let expiring = self.write_status(object, &status).await?;
            self.tell(object, EventType::Normal, "Expiring", "idle past its lease: peer and release are taken away");
            tracing::info!(deployment = status.deployment_name.as_ref().map(DeploymentName::as_str), "expiring");
            expiring
        };
        fault::point("expiring");
        if let Some(name) = &status.deployment_name {
            delete(&self.parts.client, "delete the peer", &objects::peer_named(name)).await?;
            fault::point("peer-deleted");
            self.uninstall(object, name).await?;
        }
        fault::point("uninstalled");
        status.phase = Some(Phase::Withdrawn);
        status.message = Some("idle: only its name is kept".to_owned());
        status::set_ready(&mut status, object, "Withdrawn");
        self.write_status(&expiring, &status).await?;
        fault::point("withdrawn");
        Ok(())
    }

    /// A release that cannot be uninstalled goes with its namespace, so that is no reason to stop.
    async fn uninstall(&self, object: &CloudletDeployment, name: &DeploymentName) -> Result<(), OperatorError> {
        let (reason, may_pass) = match self.try_uninstall(name).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if may_pass && retrying_for(object).is_none_or(|time| time < UNINSTALL_TRIED) {
            return Err(OperatorError::Later(reason));
        }
        tracing::warn!(deployment = %name, error = %reason, "not uninstalled; it goes with its namespace");
        Ok(())
    }

    /// The error is the reason, and whether it may pass.
    async fn try_uninstall(&self, name: &DeploymentName) -> Result<(), (Failure, bool)> {
        let access = match deployer_access(&self.parts.client, &self.parts.server, name).await {
            Ok(access) => access,
            Err(AccessError::NoAccount { .. }) => return Ok(()),
            Err(error) => return Err((Failure::new(error.code(), error.to_string()), error.is_retryable())),
        };
        let uninstalled = self.parts.helm.uninstall(name, &access).await;
        uninstalled.map_err(|error| (Failure::new(error.code(), error.to_string()), error.is_retryable()))
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
            last = self.write_status(object, &status).await?;
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
        if let Some(status) = object.status.as_ref().filter(|_| status::is_retrying(object)) {
            let mut status = status.clone();
            status::set_ready(&mut status, object, "Failed");
            self.write_status(object, &status).await?;
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

    /// Whether the peer of this name belongs to the object.
    pub(super) async fn owns_peer(&self, object: &CloudletDeployment, name: &DeploymentName) -> Result<bool, ApiError> {
        let manifest = objects::peer_named(name);
        match limited("read the peer", api_of(&self.parts.client, &manifest).get_opt(name.as_str())).await {
            Err(error) if error.is_unknown_kind() => Ok(false),
            found => Ok(found?.is_some_and(|found| belongs(&found, object))),
        }
    }
}

fn belongs(found: &DynamicObject, object: &CloudletDeployment) -> bool {
    found.owner_references().iter().any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
}
