use super::{header, recipe_error};
use crate::{
    deploy::{self, Failures, RETRY},
    domain::{Client, Cloudlet},
    outgoing::{CallError, Errand, Outgoing},
    service::Service,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    rt,
    web::{Data, Query, ThinData},
};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;
use sinfonia_server::{ApiError, client_address};
use sinfonia_wire::{ApplicationId, CloudletDeployment, CloudletId, PublicKey, Results, header as names};
use std::sync::Arc;
use tracing::Instrument as _;

/// A request that has come through more tiers than this goes in a circle.
const MOST_HOPS: u32 = 4;

/// The query of every deploy request.
#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    results: Results,
    cloudlet: Option<CloudletId>,
}

/// `POST`: a deployment on the best cloudlets.
pub(super) async fn post(
    request: HttpRequest,
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    choice: Query<Choice>,
) -> Result<HttpResponse, ApiError> {
    let result = deployments(&request, &service, &outgoing, &choice).await;
    service.metrics.deploy(result.as_ref().err().and_then(|error| error.problem().code.as_deref()));
    result.map(|deployments| HttpResponse::Ok().json(deployments))
}

/// `GET`: the candidates, or what one cloudlet has.
pub(super) async fn get(
    request: HttpRequest,
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    choice: Query<Choice>,
) -> Result<HttpResponse, ApiError> {
    let (client, errand) = read(&request, &service)?;
    if let Some(id) = choice.cloudlet {
        let cloudlet = known(&service, id)?;
        return match outgoing.find(&cloudlet, &errand).await {
            Ok(deployments) => Ok(HttpResponse::Ok().json(deployments)),
            Err(error) => Err(lookup_error(&cloudlet, error)),
        };
    }
    service.recipes.get(&errand.application).await.map_err(|error| recipe_error(&error))?;
    let candidates = deploy::preview(&service, &client, &errand, choice.results.get());
    if candidates.is_empty() {
        return Err(ApiError::not_found("no-cloudlet", nobody(&service, &client)));
    }
    Ok(HttpResponse::Ok().json(candidates.iter().map(|cloudlet| cloudlet.info()).collect::<Vec<_>>()))
}

/// `DELETE`: the deployment is no longer wanted.
pub(super) async fn delete(
    request: HttpRequest,
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    choice: Query<Choice>,
) -> Result<HttpResponse, ApiError> {
    let (client, errand) = read(&request, &service)?;
    let released = match choice.cloudlet {
        Some(id) => {
            let cloudlet = known(&service, id)?;
            let result = deploy::released(&outgoing, &cloudlet, &errand).await;
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
    choice: &Choice,
) -> Result<Vec<CloudletDeployment>, ApiError> {
    let (client, errand) = read(request, service)?;
    service.recipes.get(&errand.application).await.map_err(|error| recipe_error(&error))?;
    let results = choice.results.get();
    let candidates = match choice.cloudlet {
        Some(id) => vec![addressed(service, &client, &errand, id)?],
        None => deploy::candidates(service, &client, &errand, results),
    };
    if candidates.is_empty() {
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-cloudlet", nobody(service, &client));
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

fn known(service: &Service, id: CloudletId) -> Result<Arc<Cloudlet>, ApiError> {
    let unknown = || ApiError::not_found("unknown-cloudlet", format!("no cloudlet {id} is known"));
    service.registry.snapshot().get(id).cloned().ok_or_else(unknown)
}

/// The cloudlet a client named, if it may have it.
fn addressed(service: &Service, client: &Client, errand: &Errand, id: CloudletId) -> Result<Arc<Cloudlet>, ApiError> {
    let cloudlet = known(service, id)?;
    if service.chain.drops(&cloudlet, client) {
        let detail = format!("cloudlet {} does not serve clients at {}", cloudlet.name, client.address);
        return Err(ApiError::new(StatusCode::FORBIDDEN, "client-not-accepted", detail));
    }
    let holds = || service.holders.get(&(errand.application, errand.key)).chosen.contains(&id);
    if cloudlet.draining && !holds() {
        let detail = format!("cloudlet {} is draining and takes no new deployments", cloudlet.name);
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "cloudlet-draining", detail).with_retry_after(RETRY));
    }
    Ok(cloudlet)
}

fn nobody(service: &Service, client: &Client) -> String {
    match service.registry.snapshot().cloudlets().len() {
        0 => "no cloudlet is known: none is configured, and none has reported within the last 5 minutes".to_owned(),
        count => format!("none of the {count} known cloudlets serves clients at {}", client.address),
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
    if every(|error| is_status(error, StatusCode::GATEWAY_TIMEOUT) || matches!(error, CallError::Timeout(_))) {
        error(StatusCode::GATEWAY_TIMEOUT)
    } else if every(|error| is_status(error, StatusCode::SERVICE_UNAVAILABLE)) {
        error(StatusCode::SERVICE_UNAVAILABLE).with_retry_after(RETRY)
    } else {
        error(StatusCode::BAD_GATEWAY)
    }
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
