//! Removing all deployments without a tier2 that would do it, for the end of a cloudlet.
//!
//! What belongs to a `CloudletDeployment` goes with it by Kubernetes' garbage collection, but not reliably when the
//! definition of the resource goes in the same moment: the collector may stop watching before it has seen the objects
//! go, and then takes their belongings for owned for ever.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, GroupVersionKind, ListParams, PartialObjectMeta},
    core::DynamicObject,
};
use sinfonia_wire::cluster;

use super::{
    api::{ApiError, limited},
    cloudlet::{StartError, client_config},
    crd::CloudletDeployment,
    options::KubernetesOptions,
};

/// Deletes all `CloudletDeployment`s, and the namespaces and peers that belong to one, also to one that has gone; does
/// not wait for their end. Returns how many namespaces and peers it deleted.
///
/// # Errors
/// See [`StartError`]; what was deleted before stays deleted, and it can be called again.
pub async fn remove_deployments(options: &KubernetesOptions) -> Result<usize, StartError> {
    let config = client_config(options).await?;
    let client = Client::try_from(config).map_err(|error| StartError::Kubeconfig(error.to_string()))?;
    let objects: Api<CloudletDeployment> = Api::all(client.clone());
    let (parameters, all) = (DeleteParams::background(), ListParams::default());
    if_known(limited("delete the deployments", objects.delete_collection(&parameters, &all)).await)?;
    let namespace = GroupVersionKind::gvk("", "v1", "Namespace");
    let peer = GroupVersionKind::gvk(cluster::KILO_GROUP, cluster::KILO_VERSION, cluster::KILO_PEER_KIND);
    let mut deleted = 0;
    for kind in [namespace, peer] {
        deleted += remove_belongings(&Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))).await?;
    }
    Ok(deleted)
}

async fn remove_belongings(api: &Api<DynamicObject>) -> Result<usize, ApiError> {
    let ours = ListParams::default().labels(&format!("{}={}", cluster::LABEL, cluster::DEPLOYMENT));
    let found = limited("list what belongs to deployments", api.list_metadata(&ours)).await;
    let Some(found) = if_known(found)? else { return Ok(0) };
    let (mut deleted, parameters) = (0, DeleteParams::background());
    for name in found.iter().filter(|found| belongs(found)).map(ResourceExt::name_any) {
        let answer = limited("delete what belongs to a deployment", api.delete(&name, &parameters)).await;
        deleted += usize::from(if_known(answer)?.is_some());
    }
    Ok(deleted)
}

/// Whether it belongs to a deployment and stays. Those of other programs have the same label.
fn belongs(found: &PartialObjectMeta<DynamicObject>) -> bool {
    let (group, kind) = (CloudletDeployment::group(&()), CloudletDeployment::kind(&()));
    found.metadata.deletion_timestamp.is_none()
        && found
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.kind == kind && owner.api_version.split('/').next() == Some(group.as_ref()))
}

/// None for an object that is not there, or a kind that the cluster does not know.
fn if_known<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Err(error) if error.is_not_found() || error.is_unknown_kind() => Ok(None),
        answer => answer.map(Some),
    }
}
