use super::{
    explain, header,
    openapi::{ClientHeaders, Lookup, LookupRefusals, PostRefusals, ReleaseRefusals},
    recipe_error,
};
use crate::{
    access::{Caller, RecipeRefusal, Scope},
    deploy::{self, Failures, RETRY},
    domain::{Client, Cloudlet, Inquiry, matching::Objection},
    outgoing::{CallError, Errand, Outgoing},
    service::Service,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode},
    rt,
    web::{Data, Query, ReqData, ThinData},
};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;
use sinfonia_recipes::Placement;
use sinfonia_server::{ApiError, client_address};
use sinfonia_wire::{ApplicationId, CloudletDeployment, CloudletId, PublicKey, Results, header as names};
use std::sync::Arc;
use tracing::Instrument as _;
use utoipa::IntoParams;

/// A request that has come through more tiers than this goes in a circle.
const MOST_HOPS: u32 = 4;

/// The query of every deploy request.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Choice {
    /// How many cloudlets; more than 3 is taken as 3. DELETE ignores it.
    #[serde(default)]
    #[param(required = false, inline)]
    results: Results,
    /// This cloudlet and no other.
    #[param(value_type = CloudletId, required = false)]
    cloudlet: Option<CloudletId>,
    /// Say why which cloudlets would be asked; for GET.
    #[serde(default)]
    #[param(required = false)]
    explain: bool,
}

/// `POST`: a deployment on the best cloudlets.
#[utoipa::path(
    post,
    path = "/api/v1/deploy/{uuid}/{key}",
    operation_id = "deploy",
    tag = "deployments",
    summary = "Makes a deployment on the best cloudlets, or renews it",
    description = "What is there already is answered again, and its lease begins anew.",
    params(
        ("uuid" = ApplicationId, Path, description = "The application."),
        ("key" = PublicKey, Path, description = "The client's WireGuard public key."),
        Choice,
        ClientHeaders
    ),
    responses((status = 200, description = "The deployments that were made.", body = Vec<CloudletDeployment>), PostRefusals)
)]
pub(super) async fn post(
    request: HttpRequest,
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    caller: ReqData<Caller>,
    choice: Query<Choice>,
) -> Result<HttpResponse, ApiError> {
    let result = deployments(&request, &service, &outgoing, &caller, &choice).await;
    service.metrics.deploy(result.as_ref().err().and_then(|error| error.problem().code.as_deref()));
    result.map(|deployments| HttpResponse::Ok().json(deployments))
}

/// `GET`: the candidates, or what one cloudlet has.
#[utoipa::path(
    get,
    path = "/api/v1/deploy/{uuid}/{key}",
    operation_id = "lookUp",
    tag = "deployments",
    summary = "The cloudlets that would be asked, or what one of them has",
    description = "Nothing is made.",
    params(
        ("uuid" = ApplicationId, Path, description = "The application."),
        ("key" = PublicKey, Path, description = "The client's WireGuard public key."),
        Choice,
        ClientHeaders
    ),
    responses((status = 200, description = "What the query asks for.", body = Lookup), LookupRefusals)
)]
pub(super) async fn get(
    request: HttpRequest,
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    caller: ReqData<Caller>,
    choice: Query<Choice>,
) -> Result<HttpResponse, ApiError> {
    let (client, errand) = admitted(&request, &service, &caller).await?;
    check_owner(&service, &caller, &errand, choice.cloudlet.is_some())?;
    if let Some(id) = choice.cloudlet {
        let cloudlet = known(&service, id)?;
        return match outgoing.find(&cloudlet, &errand).await {
            Ok(deployments) => Ok(HttpResponse::Ok().json(deployments)),
            Err(error) => Err(lookup_error(&cloudlet, error)),
        };
    }
    let placement = placement(&service, &errand).await?;
    if choice.explain {
        return Ok(HttpResponse::Ok().json(explain::explain(&service, &client, &errand, &placement)));
    }
    let candidates = deploy::preview(&service, &client, &errand, &placement, choice.results.get());
    if candidates.is_empty() {
        return Err(ApiError::not_found("no-cloudlet", nobody(&service, &client, &placement)));
    }
    Ok(HttpResponse::Ok().json(candidates))
}

/// `DELETE`: the deployment is no longer wanted.
#[utoipa::path(
    delete,
    path = "/api/v1/deploy/{uuid}/{key}",
    operation_id = "release",
    tag = "deployments",
    summary = "Ends a deployment",
    description = "On the cloudlet of the query, or else on all that hold it.",
    params(
        ("uuid" = ApplicationId, Path, description = "The application."),
        ("key" = PublicKey, Path, description = "The client's WireGuard public key."),
        Choice,
        ClientHeaders
    ),
    responses((status = 204, description = "Nothing is left of it."), ReleaseRefusals)
)]
pub(super) async fn delete(
    request: HttpRequest,
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    caller: ReqData<Caller>,
    choice: Query<Choice>,
) -> Result<HttpResponse, ApiError> {
    let (client, errand) = admitted(&request, &service, &caller).await?;
    check_owner(&service, &caller, &errand, true)?;
    let released = match choice.cloudlet {
        Some(id) => {
            let cloudlet = known(&service, id)?;
            let result = deploy::release_at(&service, &outgoing, &cloudlet, &errand).await;
            result.map_err(|error| vec![(cloudlet, error)])
        }
        None => deploy::release(&service, &outgoing, &client, &errand).await,
    };
    match released {
        Ok(()) => Ok(HttpResponse::NoContent().finish()),
        Err(failures) => Err(failed("not confirmed everywhere; what is left ends with its lease", &failures)),
    }
}

async fn deployments(
    request: &HttpRequest,
    service: &Data<Service>,
    outgoing: &Outgoing,
    caller: &Caller,
    choice: &Choice,
) -> Result<Vec<CloudletDeployment>, ApiError> {
    let (client, errand) = admitted(request, service, caller).await?;
    let placement = placement(service, &errand).await?;
    let results = choice.results.get();
    own(service, caller, &errand)?;
    let candidates = match choice.cloudlet {
        Some(id) => addressed(service, &client, &errand, &placement, id)
            .map(|cloudlet| deploy::addressed(service, &errand, cloudlet)),
        None => Ok(deploy::candidates(service, &client, &errand, &placement, results)),
    };
    let nothing = || service.holders.abandon((errand.application, errand.key));
    let candidates = candidates.inspect_err(|_| nothing())?;
    if candidates.is_empty() {
        nothing();
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-cloudlet", nobody(service, &client, &placement));
        return Err(error.with_retry_after(RETRY));
    }
    // A task of its own, so that answers are taken note of although the client may be gone.
    let asking = deploy::deploy(Arc::clone(service), outgoing.clone(), errand, candidates, results);
    match rt::spawn(asking.in_current_span()).await {
        Ok(result) => result.map_err(|failures| failed("no cloudlet made the deployment", &failures)),
        Err(error) => {
            tracing::error!(%error, "a deploy request broke down");
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "the request broke down"))
        }
    }
}

/// Who asks for what, if the caller may have to do with such deployments.
async fn admitted(request: &HttpRequest, service: &Service, caller: &Caller) -> Result<(Client, Errand), ApiError> {
    caller.check(Scope::Deploy)?;
    let (client, errand) = read(request, service)?;
    match caller.check_recipe(errand.application, &service.recipes).await {
        Ok(()) => Ok((client, errand)),
        Err(RecipeRefusal::Access(error)) => Err(error),
        // What was made from a recipe that is gone can be looked after.
        Err(RecipeRefusal::Recipe(_)) if request.method() != Method::POST => Ok((client, errand)),
        Err(RecipeRefusal::Recipe(error)) => Err(recipe_error(&error)),
    }
}

/// Who asks for what, from path and headers.
fn read(request: &HttpRequest, service: &Service) -> Result<(Client, Errand), ApiError> {
    let part = |name| percent_decode_str(request.match_info().query(name)).decode_utf8_lossy();
    let application: ApplicationId =
        part("uuid").parse().map_err(|error| ApiError::bad_request("invalid-uuid", format!("application: {error}")))?;
    let key = part("key");
    let key: PublicKey = key
        .strip_suffix('/')
        .unwrap_or(&key)
        .parse()
        .map_err(|error| ApiError::bad_request("invalid-key", format!("client key: {error}")))?;
    let hops = header(request, names::X_HOPS)?.map_or(Ok(0), str::parse::<u32>).map_err(|error| {
        ApiError::bad_request("invalid-header", format!("{} is not a number: {error}", names::X_HOPS))
    })?;
    if hops >= MOST_HOPS {
        let detail =
            format!("the request has been passed on {hops} times: a cloudlet's endpoint leads back to a tier1");
        return Err(ApiError::new(StatusCode::LOOP_DETECTED, "loop-detected", detail));
    }
    let location = header(request, names::X_LOCATION)?
        .map(str::parse)
        .transpose()
        .map_err(|error| ApiError::bad_request("invalid-location", format!("{}: {error}", names::X_LOCATION)))?;
    let address = client_address(request, &service.trusted_proxies);
    let location = location.or_else(|| service.geoip.locate(address));
    let client = Client { address, location, seed: rand::random() };
    Ok((client, Errand { application, key, address, location, hops: hops + 1 }))
}

/// Makes a deployment the caller's, unless it is somebody else's.
fn own(service: &Service, caller: &Caller, errand: &Errand) -> Result<(), ApiError> {
    let deployment = (errand.application, errand.key);
    let is_own = match caller.principal() {
        Some(principal) => service.holders.own(deployment, principal),
        None => service.holders.get(&deployment).owner.is_none(),
    };
    if is_own || caller.is_admin() { Ok(()) } else { Err(not_there()) }
}

/// 404 for a deployment that is somebody else's. Where one `has_to_be_there` it has to be known whose it is, too.
fn check_owner(service: &Service, caller: &Caller, errand: &Errand, has_to_be_there: bool) -> Result<(), ApiError> {
    let holding = service.holders.get(&(errand.application, errand.key));
    let is_own = match (holding.owner, caller.principal()) {
        (Some(owner), principal) => principal == Some(owner),
        (None, None) => true,
        (None, Some(_)) => !(has_to_be_there && holding.is_empty()),
    };
    if is_own || caller.is_admin() { Ok(()) } else { Err(not_there()) }
}

/// The same for what is not there and what is not theirs.
fn not_there() -> ApiError {
    ApiError::not_found("no-deployment", "there is no such deployment")
}

fn known(service: &Service, id: CloudletId) -> Result<Arc<Cloudlet>, ApiError> {
    let unknown = || ApiError::not_found("unknown-cloudlet", format!("no cloudlet {id} is known"));
    service.registry.snapshot().get(id).cloned().ok_or_else(unknown)
}

async fn placement(service: &Service, errand: &Errand) -> Result<Arc<Placement>, ApiError> {
    service.recipes.placement(&errand.application).await.map_err(|error| recipe_error(&error))
}

/// The cloudlet a client named, if it may have it.
fn addressed(
    service: &Service,
    client: &Client,
    errand: &Errand,
    placement: &Placement,
    id: CloudletId,
) -> Result<Arc<Cloudlet>, ApiError> {
    let cloudlet = known(service, id)?;
    let holds = service.holders.get(&(errand.application, errand.key)).chosen.contains(&id);
    let inquiry = Inquiry { is_renewal: holds, ..service.inquiry(client, errand.application, placement) };
    match service.chain.objection(&cloudlet, &inquiry) {
        Some(Objection::Requirements) => {
            let detail = format!("cloudlet {} does not meet what the recipe requires", cloudlet.name);
            return Err(ApiError::new(StatusCode::CONFLICT, "requires-not-met", detail));
        }
        Some(_) => {
            let detail = format!("cloudlet {} does not serve clients at {}", cloudlet.name, client.address);
            return Err(ApiError::new(StatusCode::FORBIDDEN, "client-not-accepted", detail));
        }
        None => (),
    }
    if cloudlet.draining && !holds {
        let detail = format!("cloudlet {} is draining and takes no new deployments", cloudlet.name);
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "cloudlet-draining", detail).with_retry_after(RETRY));
    }
    Ok(cloudlet)
}

fn nobody(service: &Service, client: &Client, placement: &Placement) -> String {
    let unmet = if placement.requires.is_some() { " and meets what the recipe requires" } else { "" };
    match service.registry.snapshot().len() {
        0 => "no cloudlet is known: none is configured, and none has reported within the last 5 minutes".to_owned(),
        count => format!(
            "none of the {count} known cloudlets serves clients at {}{unmet}; GET with ?explain=true says why",
            client.address
        ),
    }
}

/// One status for what went wrong at several cloudlets, and each with its reason.
fn failed(what: &str, failures: &Failures) -> ApiError {
    let reasons: Vec<_> = failures.iter().map(|(cloudlet, error)| format!("{}: {error}", cloudlet.name)).collect();
    let listed: Vec<_> = failures
        .iter()
        .map(|(cloudlet, error)| {
            let detail = error.to_string();
            json!({"cloudlet": cloudlet.id, "name": cloudlet.name, "code": error.code(), "detail": detail})
        })
        .collect();
    let every = |kind: fn(&CallError) -> bool| failures.iter().all(|(_, error)| kind(error));
    let detail = format!("{what}: {}", reasons.join("; "));
    let error = |status| ApiError::new(status, "cloudlets-failed", detail.clone()).with_extension("failures", listed);
    if every(is_late) {
        error(StatusCode::GATEWAY_TIMEOUT)
    } else if every(|error| is_status(error, StatusCode::SERVICE_UNAVAILABLE)) {
        error(StatusCode::SERVICE_UNAVAILABLE).with_retry_after(RETRY)
    } else {
        error(StatusCode::BAD_GATEWAY)
    }
}

fn is_late(error: &CallError) -> bool {
    matches!(error, CallError::Timeout(_)) || error.has_begun() || is_status(error, StatusCode::GATEWAY_TIMEOUT)
}

fn is_status(error: &CallError, wanted: StatusCode) -> bool {
    matches!(error, CallError::Refused { status, .. } if *status == wanted)
}

fn lookup_error(cloudlet: &Arc<Cloudlet>, error: CallError) -> ApiError {
    if is_status(&error, StatusCode::NOT_FOUND) {
        return ApiError::not_found("no-deployment", format!("cloudlet {} has no such deployment", cloudlet.name));
    }
    if error.is_unsupported() {
        let detail = format!("cloudlet {} cannot look up deployments", cloudlet.name);
        return ApiError::new(StatusCode::NOT_IMPLEMENTED, "not-supported", detail);
    }
    failed("the cloudlet did not say", &vec![(Arc::clone(cloudlet), error)])
}
