//! Removing all deployments without a tier2 that would do it, for the end of a cloudlet.
//!
//! What belongs to a `CloudletDeployment` goes with it by Kubernetes' garbage collection, but not reliably when the
//! definition of the resource goes in the same moment: the collector may stop watching before it has seen the objects
//! go, and then takes their belongings for owned for ever.

use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PartialObjectMeta},
    core::DynamicObject,
};

use super::{
    api::{ApiError, limited},
    cloudlet::{StartError, connect},
    crd::CloudletDeployment,
    objects,
    options::KubernetesOptions,
};

/// Asks for the end of all `CloudletDeployment`s, and of the namespaces and peers that belong to one, also to one that
/// has gone; does not wait for it. Returns how many namespaces and peers that were.
///
/// # Errors
/// See [`StartError`]; the first of those that something could not be deleted for, after trying everything else. It can
/// be called again.
pub async fn remove_deployments(options: &KubernetesOptions) -> Result<usize, StartError> {
    let (client, _) = connect(options).await?;
    let deployments: Api<CloudletDeployment> = Api::all(client.clone());
    let (parameters, all) = (DeleteParams::background(), ListParams::default());
    let deployments = limited("delete the deployments", deployments.delete_collection(&parameters, &all)).await;
    let (peers, failure_at_peers) = remove_belongings(&Api::all_with(client.clone(), &objects::peer_kind())).await;
    let (namespaces, failure_at_namespaces) =
        remove_belongings(&Api::all_with(client, &objects::namespace_kind())).await;
    // Every cluster knows namespaces.
    let failures = [deployments.err(), failure_at_peers].into_iter().flatten();
    let failures = failures.filter(|error| !error.is_unknown_kind());
    match failures.chain(failure_at_namespaces).next() {
        Some(error) => Err(error.into()),
        None => Ok(peers + namespaces),
    }
}

/// Deletes what it can; how much, and why not all.
async fn remove_belongings(api: &Api<DynamicObject>) -> (usize, Option<ApiError>) {
    let ours = ListParams::default().labels(&objects::selector());
    let found = match limited("list what belongs to deployments", api.list_metadata(&ours)).await {
        Ok(found) => found,
        Err(error) => return (0, Some(error)),
    };
    let (mut deleted, mut failure, parameters) = (0, None, DeleteParams::background());
    for name in found.iter().filter(|found| belongs(found)).map(ResourceExt::name_any) {
        match limited("delete what belongs to a deployment", api.delete(&name, &parameters)).await {
            Ok(_) => deleted += 1,
            Err(error) if error.is_not_found() => (),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    (deleted, failure)
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
