//! What a deployment request does: the way from application and key to a usable deployment or a reason.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use sinfonia_recipes::{RecipeError, Repository};
use sinfonia_wire::{ApplicationId, CloudletDeployment, Recipe};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::{
    deployment::{DeploymentId, Progress},
    deployments::{Deployments, Listed, Request, seconds_until},
    driver::{Driver, Unsupported},
    kubernetes,
    lifecycle::{Activity, State},
    registry::{CreateError, Deployment, Failure, Outcome, Registry},
    state::{Record, StateError, Store},
};

/// The deployments of a cloudlet without Kubernetes, with the recipes they are made from.
pub struct Service {
    registry: Registry,
    recipes: Arc<Repository>,
    driver: Arc<dyn Driver>,
    store: Arc<dyn Store>,
    /// How long a request waits for a deployment to be ready.
    wait: Duration,
    draining: AtomicBool,
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
    /// The cluster does not give one.
    #[error(transparent)]
    Cluster(#[from] kubernetes::Failure),
    /// The cluster's API server does not do what it should.
    #[error(transparent)]
    Api(#[from] kubernetes::ApiError),
    /// No new ones are taken.
    #[error("this cloudlet is being drained and takes no new deployments; ask another one")]
    Draining,
    /// It cannot be remembered.
    #[error(transparent)]
    State(#[from] StateError),
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
    pub fn new(
        registry: Registry,
        recipes: Arc<Repository>,
        driver: Arc<dyn Driver>,
        store: Arc<dyn Store>,
        wait: Duration,
    ) -> Self {
        let (draining, closing) = (AtomicBool::new(false), watch::channel(false).0);
        Self { registry, recipes, driver, store, wait, draining, closing }
    }

    /// The deployments.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Goes on draining, or not, as before a restart.
    pub fn resume_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    #[tracing::instrument(name = "make or renew", skip_all, fields(sinfonia.application = %request.id.application))]
    async fn make_or_renew(&self, request: Request) -> Result<Arc<Deployment>, DeployError> {
        // A deployment that is there is renewed even if its recipe has gone meanwhile.
        let deployment = match self.registry.renew(&request.id) {
            Some(deployment) => deployment,
            None => self.create(request.id, request.client).await?,
        };
        let wait = request.wait.unwrap_or(self.wait);
        let mut closing = self.closing.subscribe();
        let outcome = tokio::select! {
            biased;
            outcome = deployment.settled() => outcome,
            _ = closing.wait_for(|closing| *closing) => return Err(CreateError::Stopping.into()),
            () = tokio::time::sleep(wait) => {
                if request.wait.is_some() {
                    return Ok(deployment);
                }
                return Err(DeployError::TooSlow { waited: wait, progress: deployment.progress().clone() });
            }
        };
        match outcome {
            Outcome::Ready => Ok(deployment),
            Outcome::Deleted => Err(DeployError::Deleted),
            Outcome::Failed(failure) => Err(DeployError::Failed { failure, progress: deployment.progress().clone() }),
        }
    }

    fn listed(&self, deployment: &Deployment, now: OffsetDateTime, output: bool) -> Listed {
        let plan = deployment.plan();
        let expires = plan.ends_at().map_or(deployment.lease_end(), |end| end.min(deployment.lease_end()));
        let (ready, progress) = (deployment.state() == State::Deployed, deployment.progress());
        Listed {
            application: plan.id.application,
            key: plan.id.key,
            name: Some(plan.name.clone()),
            phase: deployment.status(),
            client_addresses: plan.addresses.clone(),
            created: Some(plan.created),
            last_activity: match self.driver.activity(&plan.id.key) {
                Activity::Ago(ago) => Some(now - ago),
                Activity::Never | Activity::Unknown => None,
            },
            expires: Some(expires),
            seconds_left: Some(seconds_until(expires, now)),
            message: (!ready).then(|| progress.to_string()),
            output: output.then(|| progress.output()),
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

    async fn create(&self, id: DeploymentId, client: IpAddr) -> Result<Arc<Deployment>, DeployError> {
        if self.is_draining() {
            return Err(DeployError::Draining);
        }
        let recipe = self.runnable(&id.application).await?;
        self.driver.check(&recipe)?;
        Ok(self.registry.create(id, recipe, Some(client)).await?)
    }
}

impl Deployments for Service {
    fn deploy(&self, request: Request) -> BoxFuture<'_, Result<CloudletDeployment, DeployError>> {
        async move { Ok(self.make_or_renew(request).await?.describe(self.driver.tunnel())) }.boxed()
    }

    fn find(&self, id: DeploymentId) -> BoxFuture<'_, Result<Option<CloudletDeployment>, DeployError>> {
        let found = self.registry.get(&id).map(|deployment| deployment.describe(self.driver.tunnel()));
        std::future::ready(Ok(found)).boxed()
    }

    fn release(&self, id: DeploymentId) -> BoxFuture<'_, Result<(), DeployError>> {
        async move {
            self.registry.delete(&id).await;
            Ok(())
        }
        .boxed()
    }

    fn list(&self, output: bool) -> BoxFuture<'_, Result<Vec<Listed>, DeployError>> {
        let now = OffsetDateTime::now_utc();
        let all = self.registry.all();
        let listed = all.iter().map(|deployment| self.listed(deployment, now, output)).collect();
        std::future::ready(Ok(listed)).boxed()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn drain(&self, draining: bool) -> BoxFuture<'_, Result<(), DeployError>> {
        async move {
            self.store.save_draining(draining).await?;
            self.draining.store(draining, Ordering::Relaxed);
            tracing::info!(draining, "drain");
            Ok(())
        }
        .boxed()
    }
}
