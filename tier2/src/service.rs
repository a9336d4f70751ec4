//! What a deployment request does: the way from application and key to a usable deployment or a reason.

use std::{sync::Arc, time::Duration};

use sinfonia_recipes::{RecipeError, Repository};
use sinfonia_wire::{ApplicationId, Recipe};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    deployment::{DeploymentId, Progress},
    driver::{Driver, Tunnel, Unsupported},
    registry::{CreateError, Deployment, Failure, Outcome, Registry},
    state::Record,
};

/// One cloudlet's deployments, with the recipes they are made from.
pub struct Service {
    registry: Registry,
    recipes: Arc<Repository>,
    driver: Arc<dyn Driver>,
    /// How long a request waits for a deployment to be ready.
    wait: Duration,
    closing: watch::Sender<bool>,
}

/// Why a request ends without a usable deployment.
#[derive(Debug, Error)]
pub enum DeployError {
    /// There is no usable recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The driver cannot run it.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// There is no room.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It could not be made.
    #[error("{failure}")]
    Failed {
        /// Why.
        failure: Failure,
        /// How far it came.
        progress: Progress,
    },
    /// Somebody deleted it meanwhile.
    #[error("the deployment was deleted while it was being made")]
    Deleted,
    /// It is still being made.
    #[error("the deployment is not ready after {} s: it is {progress}", waited.as_secs())]
    TooSlow {
        /// How long it was waited for.
        waited: Duration,
        /// How far it is.
        progress: Progress,
    },
}

impl Service {
    /// A service on these parts; requests wait up to `wait`.
    #[must_use]
    pub fn new(registry: Registry, recipes: Arc<Repository>, driver: Arc<dyn Driver>, wait: Duration) -> Self {
        Self { registry, recipes, driver, wait, closing: watch::channel(false).0 }
    }

    /// The deployments.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What clients must know to reach this cloudlet.
    #[must_use]
    pub fn tunnel(&self) -> &Tunnel {
        self.driver.tunnel()
    }

    /// Makes the deployment or renews its lease, and waits until it is usable.
    ///
    /// # Errors
    /// See [`DeployError`].
    #[tracing::instrument(skip_all, fields(application = %id.application))]
    pub async fn deploy(&self, id: DeploymentId) -> Result<Arc<Deployment>, DeployError> {
        // A deployment that is there is renewed even if its recipe has gone meanwhile.
        let deployment = match self.registry.renew(&id) {
            Some(deployment) => deployment,
            None => self.create(id).await?,
        };
        let mut closing = self.closing.subscribe();
        let outcome = tokio::select! {
            biased;
            outcome = deployment.settled() => outcome,
            _ = closing.wait_for(|closing| *closing) => return Err(CreateError::Stopping.into()),
            () = tokio::time::sleep(self.wait) => return Err(DeployError::TooSlow {
                waited: self.wait,
                progress: deployment.progress().clone(),
            }),
        };
        match outcome {
            Outcome::Ready => Ok(deployment),
            Outcome::Deleted => Err(DeployError::Deleted),
            Outcome::Failed(failure) => Err(DeployError::Failed { failure, progress: deployment.progress().clone() }),
        }
    }

    /// Makes the remembered deployments again whose lease lives.
    pub async fn restore(&self, records: &[Record]) {
        for record in records {
            let made = match self.runnable(&record.application).await {
                Ok(recipe) => self.driver.check(&recipe).is_ok() && self.registry.restore(record, recipe),
                Err(error) => {
                    tracing::warn!(deployment = %record.name, %error, "not made again");
                    false
                }
            };
            if made {
                tracing::info!(deployment = %record.name, "made again after the restart");
            }
        }
    }

    /// Lets waiting requests end, because tier2 stops.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    async fn runnable(&self, application: &ApplicationId) -> Result<Arc<Recipe>, RecipeError> {
        let recipe = self.recipes.get(application).await?;
        self.recipes.check_commands(application, &recipe)?;
        Ok(recipe)
    }

    async fn create(&self, id: DeploymentId) -> Result<Arc<Deployment>, DeployError> {
        let recipe = self.runnable(&id.application).await?;
        self.driver.check(&recipe)?;
        Ok(self.registry.create(id, recipe).await?)
    }
}
