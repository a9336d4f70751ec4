//! Making what a deployment consists of, up to a usable backend.

use std::{collections::HashSet, time::Duration};

use futures_util::future::{FutureExt as _, try_join_all};
use kube::{ResourceExt as _, runtime::events::EventType};
use sinfonia_recipes::RecipeError;
use sinfonia_telemetry::propagation;
use sinfonia_wire::{DeploymentName, Recipe, cluster};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{Instrument as _, field::Empty};

use super::{
    Operator, OperatorError,
    status::{self, step_after_failure},
};
use crate::{
    deployment::Progress,
    fault,
    kubernetes::{
        api::{ApiError, apply, create},
        crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
        decide::Decision,
        failure::Failure,
        helm::{HelmError, Release, access::deployer_access},
        networks::Networks,
        objects::{self, Identity, Surroundings},
        reach::{self, Unreached},
        workloads,
    },
    metrics,
};

/// How often people and waiting clients are told how far an installation is.
const TELL_INTERVAL: Duration = Duration::from_secs(2);

/// How long permissions may take to become known in the API server after they were given.
const PERMITTED_WITHIN: Duration = Duration::from_secs(10);
const PERMITTED_RETRY: Duration = Duration::from_millis(30);

/// Why an installation ends without a usable backend.
enum Stop {
    /// For good; the client is told.
    Failed(Failure),
    /// For now; it is done again from the beginning.
    Later(OperatorError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Later(error.into())
    }
}

impl From<OperatorError> for Stop {
    fn from(error: OperatorError) -> Self {
        Self::Later(error)
    }
}

impl From<Unreached> for Stop {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Never(failure) => Self::Failed(failure),
            Unreached::Unknown(failure) => later(failure),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Operator {
    /// Makes everything, says when it is ready, or why it will not be.
    pub(super) async fn install(
        &self,
        object: &CloudletDeployment,
        decision: &Decision,
        afresh: bool,
        now: OffsetDateTime,
    ) -> Result<(), OperatorError> {
        let begin = Instant::now();
        let span = tracing::info_span!(
            "install",
            sinfonia.application = %object.spec.application,
            sinfonia.deployment = Empty,
            "error.type" = Empty,
            otel.status_code = Empty,
        );
        // The trace of the request that this is done for, whichever replica it reached.
        let annotations = object.annotations();
        let parent = propagation::extract(|name| {
            (name == "traceparent").then(|| annotations.get(cluster::TRACEPARENT_ANNOTATION).map(String::as_str))?
        });
        propagation::set_parent(&span, parent);
        let result = self.try_install(object, decision, afresh, now).instrument(span.clone()).await;
        let object = &self.unseen.newest(object);
        match result {
            Ok(()) => {
                span.record("sinfonia.deployment", object.deployment_name().map(DeploymentName::as_str));
                self.ready(object, begin).await
            }
            Err(Stop::Failed(failure)) => {
                span.record("error.type", &*failure.code).record("otel.status_code", "ERROR");
                self.failed(object, &failure).await
            }
            Err(Stop::Later(error)) => Err(error),
        }
    }

    async fn try_install(
        &self,
        object: &CloudletDeployment,
        decision: &Decision,
        afresh: bool,
        now: OffsetDateTime,
    ) -> Result<(), Stop> {
        let recipe = self.parts.recipes.get(&object.spec.application).await.map_err(recipe_failure)?;
        let end = self.parts.ends.current().await.or_else(unreachable_is_later)?;
        // What is made now must not look older than what was seen before.
        self.note_networks(end.networks.clone());
        let around = self.surroundings(object, end.networks);
        if afresh {
            // Of a life that failed.
            self.remove_belongings(object).await?;
        }
        let (object, identity) = self.claim(object, decision, afresh, now, &recipe, &around).await?;
        fault::point("claimed");
        let progress = Progress::default();
        let making = self.make(&object, &identity, &recipe, &around, &progress);
        self.while_telling(&object, &progress, making).await
    }

    pub(super) fn surroundings(&self, object: &CloudletDeployment, networks: Networks) -> Surroundings {
        Surroundings {
            own_account: self.parts.own_account.clone(),
            pod_security: self.parts.options.pod_security,
            egress: self.parts.options.backend_egress,
            networks,
            traceparent: object.annotations().get(cluster::TRACEPARENT_ANNOTATION).cloned(),
        }
    }

    /// A name, addresses and a namespace of that name: what is in the object, or new ones.
    async fn claim(
        &self,
        object: &CloudletDeployment,
        decision: &Decision,
        afresh: bool,
        now: OffsetDateTime,
        recipe: &Recipe,
        around: &Surroundings,
    ) -> Result<(CloudletDeployment, Identity), Stop> {
        let mut refused = HashSet::new();
        let mut object = object.clone();
        let mut anew = afresh || object.deployment_name().is_none();
        loop {
            if anew {
                self.await_known(&object).await?;
                let given = self.allocate(&object, &refused)?;
                let created = now.replace_nanosecond(0).unwrap_or(now);
                let ends_at = recipe.max_age.map(|age| created + Duration::from_secs(age.get().into()));
                let status = CloudletDeploymentStatus {
                    deployment_name: Some(given.name),
                    client_addresses: given.addresses,
                    created_at: Some(created),
                    ends_at,
                    ..CloudletDeploymentStatus::default()
                };
                object = self.begin(&object, status, decision).await?;
            } else if object.phase() != Some(decision.phase) {
                object = self.begin(&object, object.status.clone().unwrap_or_default(), decision).await?;
            }
            fault::point("allocated");
            let identity = identity(&object)?;
            if self.take_namespace(&object, &identity, around).await? {
                return Ok((object, identity));
            }
            // A peer of that name would stay beside the one of the new name.
            self.remove_belongings(&object).await?;
            refused.insert(identity.name);
            anew = true;
        }
    }

    async fn begin(
        &self,
        object: &CloudletDeployment,
        status: CloudletDeploymentStatus,
        decision: &Decision,
    ) -> Result<CloudletDeployment, ApiError> {
        let mut status = CloudletDeploymentStatus {
            phase: Some(decision.phase),
            observed_request: Some(object.spec.requested_at),
            expires_at: Some(decision.lease_end),
            message: Some("queued".to_owned()),
            failure: None,
            ..status
        };
        status::set_ready(&mut status, object, "Installing");
        self.write_status(object, &status).await
    }

    /// Whether the namespace is ours now. It is not if somebody else has one of this name, or if ours is on its way out.
    async fn take_namespace(
        &self,
        object: &CloudletDeployment,
        identity: &Identity,
        around: &Surroundings,
    ) -> Result<bool, Stop> {
        let made =
            create(&self.parts.client, "create the namespace", &objects::namespace(object, identity, around)).await;
        let ours = match made {
            Ok(_) => true,
            Err(error) if error.is_conflict() => self.owns_namespace(object, &identity.name).await?,
            Err(error) => return Err(error.into()),
        };
        fault::point("namespace");
        Ok(ours)
    }

    /// The objects around the release, the release itself, and waiting for it.
    async fn make(
        &self,
        object: &CloudletDeployment,
        identity: &Identity,
        recipe: &Recipe,
        around: &Surroundings,
        progress: &Progress,
    ) -> Result<(), Stop> {
        let client = &self.parts.client;
        progress.step("preparing its namespace");
        // The deployer's comes first: once ours counts, so does that one.
        apply(client, "bind the deployer's role", &objects::deployer_binding(identity)).await?;
        if let Some(binding) = objects::own_binding(identity, around) {
            apply(client, "bind tier2's role in the namespace", &binding).await?;
        }
        fault::point("bound");
        apply(client, "make the peer", &objects::peer(object, identity, around)).await?;
        fault::point("peer");
        let furniture = objects::furniture(identity, &recipe.resources, around);
        let mut applying = Vec::with_capacity(furniture.len());
        for manifest in &furniture {
            applying.push(self.apply_when_permitted(manifest).boxed());
        }
        try_join_all(applying).await?;
        fault::point("furnished");

        progress.step("waiting for its turn to be installed");
        let (kinds, deadline) = {
            let _turn = self.installs.acquire().await.map_err(|_| later(Failure::new("stopping", "tier2 stops")))?;
            progress.step("being installed");
            // Those that wait for their turn do not lose time.
            let deadline = Instant::now() + self.parts.options.ready_limit();
            (self.install_release(&identity.name, recipe).await?, deadline)
        };
        fault::point("installed");
        workloads::await_ready(client, &identity.name, &kinds, progress, deadline).await.map_err(not_ready)?;
        fault::point("available");
        progress.step("waiting until its services answer");
        reach::await_reachable(client, &self.parts.ends, &around.networks, identity, deadline).await?;
        fault::point("reachable");
        Ok(())
    }

    async fn install_release(&self, name: &DeploymentName, recipe: &Recipe) -> Result<workloads::Kinds, Stop> {
        let chart = self.parts.recipes.chart(recipe).map_err(recipe_failure)?;
        let access = deployer_access(&self.parts.client, &self.parts.server, name).await.map_err(|error| {
            // Also when the account is gone: then somebody removed the namespace, which the next look mends.
            later(Failure::new(error.code(), error.to_string()))
        })?;
        let release = Release { name: name.clone(), chart, values: recipe.values.clone() };
        self.parts.helm.install(&release, &access).await.map_err(|error| {
            let failure = Failure::new(error.code(), error.to_string());
            // Without its namespace it gets another one.
            let may_pass = error.is_retryable() || matches!(error, HelmError::NamespaceEnding);
            if may_pass { later(failure) } else { Stop::Failed(failure) }
        })
    }

    /// Permissions of a namespace that was just made are known a moment later.
    async fn apply_when_permitted(&self, manifest: &objects::Manifest) -> Result<(), Stop> {
        let deadline = Instant::now() + PERMITTED_WITHIN;
        loop {
            match apply(&self.parts.client, "furnish the namespace", manifest).await {
                Err(error) if error.is_forbidden() && Instant::now() < deadline => {
                    tokio::time::sleep(PERMITTED_RETRY).await;
                }
                // The recipe names limits that are none.
                Err(error) if error.is_invalid() => return Err(Stop::Failed(error.into())),
                result => return Ok(result?),
            }
        }
    }

    /// Writes into the object how far it is, as long as `making` takes.
    async fn while_telling(
        &self,
        object: &CloudletDeployment,
        progress: &Progress,
        making: impl Future<Output = Result<(), Stop>>,
    ) -> Result<(), Stop> {
        let mut object = object.clone();
        let mut timer = tokio::time::interval_at(Instant::now() + TELL_INTERVAL, TELL_INTERVAL);
        tokio::pin!(making);
        loop {
            tokio::select! {
                result = &mut making => return result,
                _ = timer.tick() => {}
            }
            let before = object.status.clone().unwrap_or_default();
            let message = Some(step_after_failure(&progress.to_string(), &before));
            if message != before.message {
                let status = CloudletDeploymentStatus { message, ..before };
                // It is only told; the next change tries again.
                if let Ok(told) = self.write_outcome(&object, |_| status.clone()).await {
                    object = told;
                }
            }
        }
    }

    async fn ready(&self, object: &CloudletDeployment, begin: Instant) -> Result<(), OperatorError> {
        let deployed = self.write_outcome(object, |now| {
            // Requests that came meanwhile have moved the lease.
            let requested = now.spec.requested_at;
            let mut status = CloudletDeploymentStatus {
                phase: Some(Phase::Deployed),
                observed_request: Some(requested),
                expires_at: Some(requested + self.parts.policy.lease),
                message: None,
                ..now.status.clone().unwrap_or_default()
            };
            status::set_ready(&mut status, now, "Deployed");
            status
        });
        let deployed = deployed.await?;
        fault::point("deployed");
        metrics::ready(begin.elapsed());
        let name = deployed.deployment_name().map(DeploymentName::as_str).unwrap_or_default();
        tracing::info!(deployment = name, ready_after_ms = begin.elapsed().as_millis(), "deployed");
        self.tell(object, EventType::Normal, "Deployed", format!("{name} is usable"));
        Ok(())
    }

    /// Says why, then takes away what was made.
    pub(super) async fn failed(&self, object: &CloudletDeployment, failure: &Failure) -> Result<(), OperatorError> {
        let mut failure = failure.clone();
        if let (Some(name), true) = (object.deployment_name(), failure.output.is_empty()) {
            failure.output = workloads::last_log_lines(&self.parts.client, name, 5).await;
        }
        tracing::warn!(deployment = object.deployment_name().map(DeploymentName::as_str), code = %failure.code, %failure, "could not be deployed");
        metrics::failed(&failure.code);
        let record = failure.record(OffsetDateTime::now_utc());
        let failed = self.write_outcome(object, |now| {
            let mut status = CloudletDeploymentStatus {
                phase: Some(Phase::Expired),
                observed_request: Some(now.spec.requested_at),
                expires_at: None,
                message: Some(failure.message.clone()),
                failure: Some(record.clone()),
                ..now.status.clone().unwrap_or_default()
            };
            status::set_ready(&mut status, now, "Failed");
            status
        });
        let object = failed.await?;
        fault::point("failed");
        self.tell(&object, EventType::Warning, "Failed", failure.message);
        self.remove_belongings(&object).await?;
        Ok(())
    }
}

/// What is made goes by this, which the object says.
pub(super) fn identity(object: &CloudletDeployment) -> Result<Identity, OperatorError> {
    let status = object.status.clone().unwrap_or_default();
    let (Some(name), Some(created)) = (status.deployment_name, status.created_at) else {
        return Err(OperatorError::later("internal-error", "the object lost its name"));
    };
    Ok(Identity { id: object.id(), name, addresses: status.client_addresses, created })
}

const fn later(failure: Failure) -> Stop {
    Stop::Later(OperatorError::Later(failure))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn recipe_failure(error: RecipeError) -> Stop {
    let failure = Failure::new(crate::routes::recipe_code(&error).1, error.to_string());
    match error {
        RecipeError::Unreachable { .. } => later(failure),
        _ => Stop::Failed(failure),
    }
}

fn unreachable_is_later<T>(failure: Failure) -> Result<T, Stop> {
    Err(if failure.code == "cluster-unreachable" { later(failure) } else { Stop::Failed(failure) })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_ready(reason: workloads::NotReady) -> Stop {
    Stop::Failed(Failure::new(reason.code(), reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_that_cannot_be_fetched_now_are_tried_again() {
        let (file, reason) = ("a recipe".to_owned(), "no".to_owned());
        let unreachable = RecipeError::Unreachable { file: file.clone(), reason: reason.clone() };
        assert!(matches!(recipe_failure(unreachable), Stop::Later(_)));
        assert!(matches!(recipe_failure(RecipeError::LocalFromRemote { file }), Stop::Failed(_)));
    }
}
