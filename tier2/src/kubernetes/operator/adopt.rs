//! Taking over what the reference's tier2 left: peers with its labels that belong to no object of ours.

use kube::{
    Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::json;
use sinfonia_wire::{ApplicationId, DeploymentName, PublicKey, cluster};
use thiserror::Error;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Operator, allocate, status};
use crate::{
    deployment::DeploymentId,
    kubernetes::{
        api::{ApiError, api_of, limited},
        crd::{CloudletDeployment, CloudletDeploymentSpec, CloudletDeploymentStatus, Phase, object_name},
        objects::{self, MANAGER},
    },
};

/// Why a peer is left alone.
#[derive(Debug, Error)]
enum Left {
    #[error("its label {0} is missing or not valid")]
    Label(&'static str),
    #[error("its name is not one of a deployment")]
    Name,
    #[error("its key is {0}, but its label says otherwise")]
    Key(String),
    #[error("there is a deployment of this application for this key already: {0}")]
    Duplicate(String),
    #[error("there is no recipe for its application: {0}")]
    Recipe(String),
    #[error("there is no namespace of its name")]
    Namespace,
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Operator {
    /// Makes objects for the peers of an earlier tier2, or says why not.
    pub(super) async fn adopt_peers(&self) {
        let ours =
            |peer: &DynamicObject| peer.owner_references().iter().any(|owner| owner.kind == "CloudletDeployment");
        let labelled =
            |peer: &DynamicObject| peer.labels().get(cluster::LABEL).is_some_and(|value| value == cluster::DEPLOYMENT);
        for peer in self.peers.state().into_iter().filter(|peer| labelled(peer) && !ours(peer)) {
            match self.adopt(&peer).await {
                Ok(()) => tracing::info!(peer = peer.name_any(), "taken over from an earlier tier2"),
                Err(reason) => {
                    tracing::warn!(peer = peer.name_any(), %reason, "a peer with our labels is not taken over")
                }
            }
        }
    }

    async fn adopt(&self, peer: &DynamicObject) -> Result<(), Left> {
        let name: DeploymentName = peer.name_any().parse().map_err(|_| Left::Name)?;
        let id = identity(peer)?;
        let object_name = object_name(&id);
        if self.parts.watched.get(&object_name).is_some() {
            return Err(Left::Duplicate(object_name));
        }
        self.parts.recipes.get(&id.application).await.map_err(|error| Left::Recipe(error.to_string()))?;
        let namespace = objects::namespace_named(&name);
        let found =
            limited("read the namespace", api_of(&self.parts.client, &namespace).get_opt(name.as_str())).await?;
        found.ok_or(Left::Namespace)?;

        let now = OffsetDateTime::now_utc();
        let created = peer.annotations().get(cluster::CREATED_ANNOTATION);
        let created = created.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).unwrap_or(now);
        let spec = CloudletDeploymentSpec {
            application: id.application,
            key: id.key,
            requested_at: now,
            client_address: None,
        };
        let object = CloudletDeployment::new(&object_name, spec);
        let apply = PatchParams::apply(MANAGER);
        let object =
            limited("make the deployment", self.api.patch(&object_name, &apply, &Patch::Apply(&object))).await?;
        let mut status = CloudletDeploymentStatus {
            phase: Some(Phase::Deployed),
            deployment_name: Some(name.clone()),
            client_addresses: allocate::peer_addresses(peer),
            created_at: Some(created),
            observed_request: Some(now),
            expires_at: Some(now + self.parts.policy.lease),
            ..CloudletDeploymentStatus::default()
        };
        status::set_ready(&mut status, &object, "TakenOver");
        // Owners first: without them the status would promise what nothing removes.
        let labels =
            [(cluster::UUID_LABEL, id.application.to_string()), (cluster::KEY_LABEL, cluster::key_label(&id.key))];
        for manifest in [objects::peer_named(&name), namespace] {
            self.own(&manifest, &object, &labels).await?;
        }
        self.write_outcome(&object, |_| status.clone()).await?;
        Ok(())
    }

    async fn own(
        &self,
        manifest: &objects::Manifest,
        owner: &CloudletDeployment,
        labels: &[(&str, String)],
    ) -> Result<(), ApiError> {
        let mut all: std::collections::BTreeMap<&str, &str> =
            labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.insert(cluster::LABEL, cluster::DEPLOYMENT);
        let patch = Patch::Merge(json!({
            "metadata": { "ownerReferences": [owner.controller_owner_ref(&())], "labels": all }
        }));
        let api = api_of(&self.parts.client, manifest);
        let name = manifest.object.name_any();
        limited("take over an object", api.patch(&name, &PatchParams::default(), &patch)).await.map(drop)
    }
}

fn identity(peer: &DynamicObject) -> Result<DeploymentId, Left> {
    let label = |name: &'static str| peer.labels().get(name).ok_or(Left::Label(name));
    let application: ApplicationId =
        label(cluster::UUID_LABEL)?.parse().map_err(|_| Left::Label(cluster::UUID_LABEL))?;
    let key = cluster::key_of_label(label(cluster::KEY_LABEL)?).ok_or(Left::Label(cluster::KEY_LABEL))?;
    let given = peer.data.pointer("/spec/publicKey").and_then(serde_json::Value::as_str).unwrap_or_default();
    if given.parse::<PublicKey>().ok() != Some(key) {
        return Err(Left::Key(given.to_owned()));
    }
    Ok(DeploymentId { application, key })
}
