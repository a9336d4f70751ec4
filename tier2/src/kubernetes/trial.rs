//! A namespace in which `check` tries things, as in a deployment's.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Namespace, rbac::v1::RoleBinding};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sinfonia_wire::cluster;
use thiserror::Error;

use super::{
    account::Account,
    fetch::reason,
    permissions::{DEPLOYER_ROLE, NAMESPACE_ROLE},
};

/// The value of label `findcloudlet.org` of such namespaces.
const CHECK: &str = "check";

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How old a namespace of an earlier check must be to be taken for a left-over.
const LEFT_OVER: Duration = Duration::from_secs(15 * 60);

/// The namespace. [`Trial::end`] removes it.
pub(super) struct Trial {
    client: Client,
    name: String,
}

/// Something cannot be made.
#[derive(Debug, Clone, Error)]
#[error("{what} cannot be made for a trial: {reason}")]
pub(crate) struct TrialError {
    what: String,
    reason: String,
}

impl Trial {
    /// Makes a namespace `<prefix>-<random>`, with the rights that tier2 has in a deployment's and those of a chart, and
    /// removes what an earlier check may have left.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) async fn begin(client: &Client, prefix: &str) -> Result<Self, TrialError> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        remove_left_overs(&namespaces).await;
        let labels = json!({
            cluster::LABEL: CHECK,
            "pod-security.kubernetes.io/enforce": "restricted",
        });
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        create(&namespaces, "a namespace", namespace).await?;
        let trial = Self { client: client.clone(), name };
        match trial.bind().await {
            Ok(()) => Ok(trial),
            Err(error) => {
                trial.end().await;
                Err(error)
            }
        }
    }

    /// The client for it.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes an object in it.
    ///
    /// # Errors
    /// When the API server refuses or is away.
    pub(super) async fn make<K>(&self, what: &str, object: Value) -> Result<K, TrialError>
    where
        K: kube::Resource<Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        create(&Api::namespaced(self.client.clone(), &self.name), what, object).await
    }

    /// A ServiceAccount needs bindings; a user has what they have.
    async fn bind(&self) -> Result<(), TrialError> {
        let account = Account::own(&self.client).await;
        let account = account.map_err(|error| TrialError { what: "bindings".to_owned(), reason: error.to_string() })?;
        let Some((namespace, account)) = account.service() else { return Ok(()) };
        for role in [NAMESPACE_ROLE, DEPLOYER_ROLE] {
            let binding = json!({
                "metadata": { "name": role },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": account }],
            });
            self.make::<RoleBinding>(&format!("a binding of ClusterRole {role}"), binding).await?;
        }
        Ok(())
    }

    /// Removes it with all that is in it, without waiting for its end.
    pub(super) async fn end(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        remove(&namespaces, &self.name).await;
    }
}

async fn create<K>(api: &Api<K>, what: &str, object: Value) -> Result<K, TrialError>
where
    K: kube::Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let failed = |reason: String| TrialError { what: what.to_owned(), reason };
    let object: K = serde_json::from_value(object).map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(LIMIT, api.create(&PostParams::default(), &object)).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(failed(reason(&error))),
        Err(_) => Err(failed(format!("the API server did not answer within {} s", LIMIT.as_secs()))),
    }
}

async fn remove(namespaces: &Api<Namespace>, name: &str) {
    match tokio::time::timeout(LIMIT, namespaces.delete(name, &DeleteParams::background())).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(namespace = name, error = reason(&error), "not removed: remove it yourself"),
        Err(_) => tracing::warn!(namespace = name, "not removed in time: remove it yourself"),
    }
}

async fn remove_left_overs(namespaces: &Api<Namespace>) {
    let ours = ListParams::default().labels(&format!("{}={CHECK}", cluster::LABEL));
    let Ok(Ok(found)) = tokio::time::timeout(LIMIT, namespaces.list(&ours)).await else { return };
    let now = std::time::SystemTime::now();
    for namespace in found {
        let made = namespace.metadata.creation_timestamp.map(|time| std::time::SystemTime::from(time.0));
        let old = made.and_then(|made| now.duration_since(made).ok()).is_some_and(|age| age > LEFT_OVER);
        if let (true, Some(name)) = (old, namespace.metadata.name) {
            remove(namespaces, &name).await;
        }
    }
}
