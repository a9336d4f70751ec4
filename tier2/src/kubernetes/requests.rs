//! What clients ask for, as seen by any replica: a request writes the object's `spec` and waits for its `status`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use sinfonia_recipes::Repository;
use sinfonia_wire::{CloudletDeployment as Answer, DeploymentStatus, Dns, TunnelConfig, cluster};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    admission::{Admission, Load},
    api::limited,
    crd::{CloudletDeployment, CloudletDeploymentSpec, Phase, object_name},
    drain::Drain,
    ends::Ends,
    failure::Failure,
    watched::{Seen, Watched},
    workloads,
};
use crate::{
    deployment::DeploymentId,
    deployments::{Deployments, Listed, Request, seconds_until},
    service::DeployError,
};

/// Who makes the `spec` (server-side apply).
const MANAGER: &str = "sinfonia-tier2-request";

/// How long the making of an object may take at least, whatever the client would wait.
const LEAST_WAIT: Duration = Duration::from_secs(5);

/// How many lines of output a listed deployment shows.
const LISTED_LINES: usize = 20;

/// How many namespaces are asked for output at once.
const LISTED_AT_ONCE: usize = 8;

/// The HTTP face's view of the cluster.
pub(super) struct Requests {
    pub(super) client: Client,
    pub(super) api: Api<CloudletDeployment>,
    pub(super) watched: Arc<Watched>,
    pub(super) recipes: Arc<Repository>,
    pub(super) ends: Ends,
    pub(super) drain: Arc<Drain>,
    pub(super) admission: Admission,
    /// How long a request without a time of its own waits.
    pub(super) wait: Duration,
}

impl Deployments for Requests {
    fn deploy(&self, request: Request) -> BoxFuture<'_, Result<Answer, DeployError>> {
        self.make_or_renew(request).boxed()
    }

    fn find(&self, id: DeploymentId) -> BoxFuture<'_, Result<Option<Answer>, DeployError>> {
        async move {
            let found = limited("read the deployment", self.api.get_opt(&object_name(&id))).await?;
            let Some(object) = found.filter(|object| !object.is_leaving()) else { return Ok(None) };
            Ok(if object.phase() == Some(Phase::Expired) { None } else { self.describe(&object).await? })
        }
        .boxed()
    }

    fn release(&self, id: DeploymentId) -> BoxFuture<'_, Result<(), DeployError>> {
        async move {
            let name = object_name(&id);
            // Its namespace and peer follow, since they belong to it.
            match limited("delete the deployment", self.api.delete(&name, &DeleteParams::background())).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn list(&self, output: bool) -> BoxFuture<'_, Result<Vec<Listed>, DeployError>> {
        async move {
            let mut objects = self.watched.all();
            objects.sort_by_key(|object| object.id());
            let now = OffsetDateTime::now_utc();
            let mut listing = vec![];
            for object in objects {
                listing.push(self.listed(object, now, output).boxed());
            }
            Ok(stream::iter(listing).buffered(LISTED_AT_ONCE).collect().await)
        }
        .boxed()
    }

    fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    fn drain(&self, draining: bool) -> BoxFuture<'_, Result<(), DeployError>> {
        async move { Ok(self.drain.set(draining).await?) }.boxed()
    }
}

impl Requests {
    async fn listed(&self, object: Arc<CloudletDeployment>, now: OffsetDateTime, output: bool) -> Listed {
        let mut listed = listed(&object, now);
        if let (true, Some(name)) = (output, &listed.name) {
            listed.output = Some(workloads::last_log_lines(&self.client, name, LISTED_LINES).await);
        }
        listed
    }

    async fn make_or_renew(&self, request: Request) -> Result<Answer, DeployError> {
        let begin = Instant::now();
        let name = object_name(&request.id);
        let known = self.watched.get(&name).filter(|object| !object.is_leaving());
        let asked = match &known {
            Some(object) if object.phase().is_some_and(|phase| phase != Phase::Expired) => {
                match self.renew(&name, object).await? {
                    Some(renewed) => renewed,
                    // It was deleted a moment ago.
                    None => self.make(&name, &request, None).await?,
                }
            }
            _ => self.make(&name, &request, known.as_deref()).await?,
        };
        if asked.phase() == Some(Phase::Deployed)
            && let Some(answer) = self.describe(&asked).await?
        {
            return Ok(answer);
        }
        let wait = request.wait.unwrap_or(self.wait).saturating_sub(begin.elapsed());
        match tokio::time::timeout(wait, self.settled(&name, &asked)).await {
            Ok(answer) => answer,
            Err(_) => self.unsettled(&name, &asked, &request, begin.elapsed()).await,
        }
    }

    /// One bare patch. None if there is no such object.
    async fn renew(&self, name: &str, known: &CloudletDeployment) -> Result<Option<CloudletDeployment>, DeployError> {
        let requested = rfc3339(next_request(Some(known)));
        let patch = Patch::Merge(json!({ "metadata": { "uid": known.uid() }, "spec": { "requestedAt": requested } }));
        match limited("renew the deployment", self.api.patch(name, &PatchParams::default(), &patch)).await {
            Ok(object) if object.is_leaving() => Ok(None),
            Ok(object) => Ok(Some(object)),
            // Another object has the name now: its uid is not the one we know.
            Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the object, or asks once more for one that failed.
    async fn make(
        &self,
        name: &str,
        request: &Request,
        failed: Option<&CloudletDeployment>,
    ) -> Result<CloudletDeployment, DeployError> {
        if self.drain.is_draining() {
            return Err(Failure::draining().into());
        }
        self.recipes.get(&request.id.application).await?;
        let all = self.watched.all();
        self.admission.check(&Load::of(&all, name, Some(request.client)))?;
        self.ends.current().await?;
        let spec = CloudletDeploymentSpec {
            application: request.id.application,
            key: request.id.key,
            requested_at: next_request(failed),
            client_address: Some(request.client),
        };
        let mut object = CloudletDeployment::new(name, spec);
        if let Some(traceparent) = traceparent() {
            object.annotations_mut().insert(cluster::TRACEPARENT_ANNOTATION.to_owned(), traceparent);
        }
        object.labels_mut().extend([
            (cluster::UUID_LABEL.to_owned(), request.id.application.to_string()),
            (cluster::KEY_LABEL.to_owned(), cluster::key_label(&request.id.key)),
        ]);
        // Something else may hold an earlier one back.
        let limit = request.wait.map_or(self.wait, |wait| wait.max(LEAST_WAIT));
        let applied = tokio::time::timeout(limit, self.apply(name, object)).await;
        applied.unwrap_or_else(|_| Err(Failure::not_ready(limit, "waiting for the end of an earlier one").into()))
    }

    async fn apply(&self, name: &str, object: CloudletDeployment) -> Result<CloudletDeployment, DeployError> {
        let apply = PatchParams::apply(MANAGER).force();
        loop {
            let patch = Patch::Apply(&object);
            match limited("ask for the deployment", self.api.patch(name, &apply, &patch)).await {
                Ok(object) if !object.is_leaving() => return Ok(object),
                // The earlier one has to go first. Nothing holds it back: it has no finalizer of ours.
                Ok(earlier) => self.gone(name, earlier.uid()).await,
                // Somebody made it in the same moment: then this is a renewal.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn gone(&self, name: &str, uid: Option<String>) {
        let mut seen = self.watched.subscribe(name);
        let _ = seen.wait_for(|seen| seen.as_ref().is_none_or(|object| object.uid() != uid)).await;
    }

    /// Waits until the operator has answered the request that `asked` holds.
    async fn settled(&self, name: &str, asked: &CloudletDeployment) -> Result<Answer, DeployError> {
        let mut seen = self.watched.subscribe(name);
        let mut appeared = false;
        loop {
            let now = seen.borrow_and_update().clone();
            match verdict(&now, asked, &mut appeared) {
                Verdict::Usable(object) => {
                    if let Some(answer) = self.describe(&object).await? {
                        return Ok(answer);
                    }
                }
                Verdict::Failed(failure) => return Err(failure.into()),
                Verdict::Deleted => return Err(DeployError::Deleted),
                Verdict::Waiting => {}
            }
            if seen.changed().await.is_err() {
                return Err(DeployError::Deleted);
            }
        }
    }

    /// The time is up: who said how long they wait gets what there is, others an error.
    async fn unsettled(
        &self,
        name: &str,
        asked: &CloudletDeployment,
        request: &Request,
        waited: Duration,
    ) -> Result<Answer, DeployError> {
        let now = self.watched.get(name);
        let object = now.as_deref().unwrap_or(asked);
        if request.wait.is_some()
            && let Some(answer) = self.describe(object).await?
        {
            return Ok(answer);
        }
        let message = object.status.as_ref().and_then(|status| status.message.clone());
        Err(Failure::not_ready(waited, message.as_deref().unwrap_or("queued")).into())
    }

    /// The deployment as clients are told about it; none before it has a name and addresses.
    async fn describe(&self, object: &CloudletDeployment) -> Result<Option<Answer>, DeployError> {
        let Some(status) = &object.status else { return Ok(None) };
        let Some(name) = &status.deployment_name else { return Ok(None) };
        let end = self.ends.current().await?;
        Ok(Some(Answer {
            uuid: object.spec.application,
            application_key: object.spec.key,
            status: status.phase.map_or(DeploymentStatus::Initializing, Into::into),
            deployment_name: Some(name.clone()),
            created: status.created_at,
            tunnel_config: TunnelConfig {
                public_key: end.public_key,
                allowed_ips: super::allowed_ips(&status.client_addresses),
                endpoint: end.endpoint.clone(),
                address: status.client_addresses.iter().map(|address| (*address).into()).collect(),
                dns: Dns { servers: end.resolvers.clone(), search: name.search_domains() },
            },
            cloudlet: None,
        }))
    }
}

enum Verdict {
    Usable(Arc<CloudletDeployment>),
    Failed(Failure),
    Deleted,
    Waiting,
}

/// What has become of the request that `asked` holds. The cache may be behind: only what is at least as new counts.
fn verdict(seen: &Seen, asked: &CloudletDeployment, appeared: &mut bool) -> Verdict {
    let Some(object) = seen.as_ref().filter(|object| is_as_new(object, asked)) else {
        let deleted = *appeared && seen.is_none();
        return if deleted { Verdict::Deleted } else { Verdict::Waiting };
    };
    *appeared = true;
    if object.is_leaving() {
        return Verdict::Deleted;
    }
    let Some(status) = &object.status else { return Verdict::Waiting };
    let answered = status.observed_request.is_some_and(|answered| answered >= asked.spec.requested_at);
    match (status.phase, &status.failure) {
        (Some(Phase::Deployed), _) => Verdict::Usable(Arc::clone(object)),
        (Some(Phase::Expired), Some(failure)) if answered => Verdict::Failed(failure.into()),
        _ => Verdict::Waiting,
    }
}

fn is_as_new(object: &CloudletDeployment, than: &CloudletDeployment) -> bool {
    match (object.version(), than.version()) {
        (Some(seen), Some(asked)) => seen >= asked,
        _ => true,
    }
}

/// Now, but always later than the request before, whatever the replicas' clocks say.
fn next_request(known: Option<&CloudletDeployment>) -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    known.map_or(now, |object| now.max(object.spec.requested_at + Duration::from_micros(1)))
}

fn rfc3339(time: OffsetDateTime) -> String {
    // Years beyond 9999 are not now.
    time.format(&Rfc3339).unwrap_or_default()
}

fn listed(object: &CloudletDeployment, now: OffsetDateTime) -> Listed {
    let status = object.status.clone().unwrap_or_default();
    let message = status.failure.map(|failure| failure.message).or(status.message);
    Listed {
        application: object.spec.application,
        key: object.spec.key,
        name: status.deployment_name,
        phase: status.phase.map_or(DeploymentStatus::Initializing, Into::into),
        client_addresses: status.client_addresses,
        created: status.created_at,
        last_activity: status.last_activity,
        expires: status.expires_at,
        seconds_left: status.expires_at.map(|end| seconds_until(end, now)),
        message,
        output: None,
    }
}

/// The W3C trace context of the present request.
fn traceparent() -> Option<String> {
    let mut traceparent = None;
    sinfonia_telemetry::propagation::inject(&mut |name, value| {
        if name == "traceparent" {
            traceparent = Some(value.to_owned());
        }
    });
    traceparent
}
