//! Requests to the API server, each with a time limit and an error that says what was tried.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use thiserror::Error;

use super::objects::{MANAGER, Manifest};

/// How long one request may take; watches are not requests.
const LIMIT: Duration = Duration::from_secs(15);

/// A request to the API server failed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// It did not answer.
    #[error("the cluster's API server does not answer: cannot {what} within {} s", limit.as_secs())]
    Silent {
        /// What was tried.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// It answered with an error, or could not be reached.
    #[error("cannot {what}: {}", sentence(source))]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: Box<kube::Error>,
    },
}

impl ApiError {
    /// There is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// The cluster does not know such objects. Its answer is no status, as that of an API that is not there, so it has
    /// not the reason of an object that is not there.
    pub(super) fn is_unknown_kind(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 404 && status.reason != kube::core::response::reason::NOT_FOUND)
    }

    /// Somebody else changed or made it.
    pub(super) fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.is_conflict() || status.is_already_exists())
    }

    /// The object, as it would become, is not valid.
    pub(super) fn is_invalid(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_invalid)
    }

    /// Permission is missing.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_forbidden)
    }

    /// The request is refused, and would be again: not because of another one, nor of too many.
    pub(super) fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code))
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Refused { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Silent { .. } => None,
        }
    }
}

/// The server's own words without the debug output that kube appends.
fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Service(source) => format!("the cluster's API server cannot be reached: {source}"),
        other => other.to_string(),
    }
}

/// Makes a request within the time limit. `what` goes on after "cannot".
pub(super) async fn limited<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    limited_to(LIMIT, what, request).await
}

/// The same within another limit.
pub(super) async fn limited_to<T>(
    limit: Duration,
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ApiError::Refused { what, source: Box::new(source) }),
        Err(_) => Err(ApiError::Silent { what, limit }),
    }
}

/// The API that an object of any kind belongs to.
pub(super) fn api_of(client: &Client, manifest: &Manifest) -> Api<DynamicObject> {
    match &manifest.object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &manifest.api),
        None => Api::all_with(client.clone(), &manifest.api),
    }
}

/// Makes the object as it is given, or changes it to be so (server-side apply).
pub(super) async fn apply(client: &Client, what: &'static str, manifest: &Manifest) -> Result<(), ApiError> {
    let name = manifest.object.metadata.name.as_deref().unwrap_or_default();
    let (api, parameters) = (api_of(client, manifest), PatchParams::apply(MANAGER).force());
    limited(what, api.patch(name, &parameters, &Patch::Apply(&manifest.object))).await.map(drop)
}

/// Makes the object; it must not exist.
pub(super) async fn create(
    client: &Client,
    what: &'static str,
    manifest: &Manifest,
) -> Result<DynamicObject, ApiError> {
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    limited(what, api_of(client, manifest).create(&parameters, &manifest.object)).await
}

/// Deletes the object, if it is there; what belongs to it follows.
pub(super) async fn delete(client: &Client, what: &'static str, manifest: &Manifest) -> Result<(), ApiError> {
    let name = manifest.object.metadata.name.as_deref().unwrap_or_default();
    match limited(what, api_of(client, manifest).delete(name, &DeleteParams::background())).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
