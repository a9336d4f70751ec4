//! Writing an object's status: by the leader only, whole each time, and only onto the object that was decided about.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Operator;
use crate::kubernetes::{
    api::{ApiError, limited},
    crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
    objects::MANAGER,
};

/// Which changes of an object since it was read make a write fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    /// Any: a request that came meanwhile has to be looked at first.
    Any,
    /// Only that it was replaced by another one of its name.
    Identity,
}

/// The versions of objects that this operator has written and not yet seen, by their names.
#[derive(Default)]
pub(super) struct Unseen(Mutex<HashMap<String, u64>>);

impl Unseen {
    fn note(&self, written: &CloudletDeployment) {
        if let Some(version) = written.version() {
            self.versions().insert(written.name_any(), version);
        }
    }

    /// Whether a cached object is as it was before this operator wrote into it. To decide about it would be to do
    /// again what was just done; the new one comes by itself.
    pub(super) fn outdates(&self, cached: &CloudletDeployment) -> bool {
        let (mut versions, name) = (self.versions(), cached.name_any());
        let is_old = versions.get(&name).zip(cached.version()).is_some_and(|(written, cached)| cached < *written);
        if !is_old {
            versions.remove(&name);
        }
        is_old
    }

    /// For an object that was deleted.
    pub(super) fn forget(&self, object: &CloudletDeployment) {
        self.versions().remove(&object.name_any());
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operator {
    /// Replaces the status and returns the object as it is then.
    ///
    /// # Errors
    /// A conflict when the object has changed in a way that matters.
    pub(super) async fn write_status(
        &self,
        object: &CloudletDeployment,
        status: &CloudletDeploymentStatus,
        fence: Fence,
    ) -> Result<CloudletDeployment, ApiError> {
        let written = write(&self.api, object, status, fence).await?;
        self.unseen.note(&written);
        Ok(written)
    }
}

async fn write(
    api: &Api<CloudletDeployment>,
    object: &CloudletDeployment,
    status: &CloudletDeploymentStatus,
    fence: Fence,
) -> Result<CloudletDeployment, ApiError> {
    let mut metadata = json!({ "uid": object.uid() });
    if fence == Fence::Any {
        metadata["resourceVersion"] = json!(object.resource_version());
    }
    let patch = Patch::Merge(json!({ "metadata": metadata, "status": complete(status) }));
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    limited("write the deployment's status", api.patch_status(&object.name_any(), &parameters, &patch)).await
}

/// What is absent from a merge patch would stay, so it is named.
fn complete(status: &CloudletDeploymentStatus) -> Value {
    const FIELDS: [&str; 11] = [
        "phase",
        "deploymentName",
        "clientAddresses",
        "createdAt",
        "endsAt",
        "lastActivity",
        "expiresAt",
        "observedRequest",
        "message",
        "failure",
        "conditions",
    ];
    // Shown to people, who do not count nanoseconds.
    let expires_at = status.expires_at.and_then(|end| end.replace_nanosecond(0).ok());
    let mut value = json!(CloudletDeploymentStatus { expires_at, ..status.clone() });
    if let Some(fields) = value.as_object_mut() {
        for name in FIELDS {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    value
}

/// Sets the condition `Ready`, whose time changes only with its value.
pub(super) fn set_ready(status: &mut CloudletDeploymentStatus, object: &CloudletDeployment, reason: &str) {
    let value = if status.phase == Some(Phase::Deployed) { "True" } else { "False" };
    let before = status.conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == value);
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: status.failure.as_ref().map_or_else(String::new, |failure| failure.message.clone()),
        last_transition_time: before
            .map_or_else(|| Time(Timestamp::now()), |condition| condition.last_transition_time.clone()),
        observed_generation: object.metadata.generation,
    };
    status.conditions = vec![condition];
}

#[cfg(test)]
mod tests {
    use sinfonia_wire::{ApplicationId, PublicKey};

    use super::*;
    use crate::{
        deployment::DeploymentId,
        kubernetes::crd::{CloudletDeploymentSpec, object_name},
    };

    #[test]
    fn an_object_from_before_a_write_is_old_until_the_write_is_seen() {
        let id = DeploymentId { application: ApplicationId::HELLOWORLD, key: PublicKey::from([7; 32]) };
        let at = |version: u64| {
            let spec = CloudletDeploymentSpec {
                application: id.application,
                key: id.key,
                requested_at: time::OffsetDateTime::UNIX_EPOCH,
                client_address: None,
            };
            let mut object = CloudletDeployment::new(&object_name(&id), spec);
            object.metadata.resource_version = Some(version.to_string());
            object
        };
        let unseen = Unseen::default();
        assert!(!unseen.outdates(&at(99)));
        unseen.note(&at(100));
        assert!(unseen.outdates(&at(99)));
        assert!(!unseen.outdates(&at(100)));
        assert!(!unseen.outdates(&at(99)), "nothing is kept of what was seen");
        unseen.note(&at(100));
        unseen.forget(&at(100));
        assert!(!unseen.outdates(&at(99)));
    }

    #[test]
    fn a_patch_clears_what_is_no_longer_so() {
        let status = CloudletDeploymentStatus { message: Some("m".to_owned()), ..Default::default() };
        let value = complete(&status);
        assert_eq!(value["message"], "m");
        assert!(value.as_object().unwrap().contains_key("failure"));
        assert!(value["failure"].is_null() && value["clientAddresses"].is_null());
    }
}
