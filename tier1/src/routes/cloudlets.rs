use super::{
    openapi::{ForgetRefusals, ReportRefusals},
    unavailable,
};
use crate::{
    access::{Caller, Scope},
    deploy::RETRY,
    domain::{Origin, bounds},
    outgoing::Outgoing,
    resolve::AddressError,
    service::{Service, registration},
    store::{Act, ForgetError, RegisterError},
};
use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Json, Path, ReqData, ThinData},
};
use sinfonia_server::ApiError;
use sinfonia_wire::{CloudletId, CloudletInfo};
use tracing::warn;

/// What a body may hold, as [`bounds`] and the server have it.
const LIMITS: &str = "At most 256 KiB, 100 locations, resources and labels each, and 1,000 networks in each list; names have \
    at most 256 characters, values of labels 1,024, without control characters; resources are within ±1e18. Unknown \
    members are ignored.";

/// `POST /cloudlets/`. Names are resolved when a cloudlet is new or has changed, not at each report.
#[utoipa::path(
    post,
    path = "/api/v1/cloudlets",
    operation_id = "reportCloudlet",
    tag = "cloudlets",
    summary = "A cloudlet reports itself",
    description = "To be repeated within 5 minutes, or the cloudlet is forgotten. `uuid` is required.",
    request_body(content = CloudletInfo, description = LIMITS),
    responses((status = 204, description = "Taken."), ReportRefusals)
)]
pub(super) async fn report(
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    caller: ReqData<Caller>,
    info: Json<CloudletInfo>,
) -> Result<HttpResponse, ApiError> {
    let result = take(&service, &outgoing, &caller, info.into_inner()).await;
    service.metrics.report(result.is_ok());
    result.map(|()| HttpResponse::NoContent().finish())
}

async fn take(service: &Service, outgoing: &Outgoing, caller: &Caller, mut info: CloudletInfo) -> Result<(), ApiError> {
    caller.check(Scope::Report)?;
    info.uuid.map_or(Ok(()), |uuid| caller.check_report(uuid))?;
    if caller.is_anonymous() {
        // As the reference does: anybody could call theirs as somebody else's is called.
        info.name = None;
    }
    if !caller.is_known() {
        // Nobody else may claim to be next to other people's networks.
        info.local_networks = None;
    }
    bounds::check(&info).map_err(|error| ApiError::bad_request("invalid-body", error.to_string()))?;
    if service.store.beat(&info).await.map_err(register_error)? {
        return Ok(());
    }
    let (resolver, policy) = outgoing.resolver();
    let registration = registration(info, Origin::Reported, resolver, policy, &service.geoip)
        .await
        .map_err(|error| endpoint_error(&error))?;
    service.store.register(registration).await.map_err(register_error)
}

/// `DELETE /cloudlets/{uuid}`.
#[utoipa::path(
    delete,
    path = "/api/v1/cloudlets/{uuid}",
    operation_id = "forgetCloudlet",
    tag = "cloudlets",
    summary = "Forgets a cloudlet",
    description = "For administrators. A cloudlet that goes on reporting comes back.",
    params(("uuid" = CloudletId, Path, description = "The cloudlet.")),
    responses((status = 204, description = "Forgotten."), ForgetRefusals)
)]
pub(super) async fn forget(
    service: Data<Service>,
    caller: ReqData<Caller>,
    uuid: Path<String>,
) -> Result<HttpResponse, ApiError> {
    caller.check(Scope::Admin)?;
    let id = identity(&uuid)?;
    let actor = caller.describe();
    let act = Act { actor: &actor, action: "cloudlet.delete", subject: id.to_string(), detail: None };
    service.store.forget(id, &act).await.map_err(forget_error)?;
    Ok(HttpResponse::NoContent().finish())
}

/// The identity in a path.
pub(super) fn identity(text: &str) -> Result<CloudletId, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request("invalid-uuid", format!("cloudlet: {error}")))
}

pub(super) fn unknown(id: CloudletId) -> ApiError {
    ApiError::not_found("unknown-cloudlet", format!("no cloudlet {id} is known"))
}

fn forget_error(error: ForgetError) -> ApiError {
    let detail = error.to_string();
    match error {
        ForgetError::Unknown(_) => ApiError::not_found("unknown-cloudlet", detail),
        ForgetError::Configured(_) => ApiError::new(StatusCode::CONFLICT, "configured-cloudlet", detail),
        ForgetError::Unavailable(error) => {
            warn!(%error, "a cloudlet was not deleted");
            unavailable(detail)
        }
    }
}

fn register_error(error: RegisterError) -> ApiError {
    let detail = error.to_string();
    match error {
        RegisterError::Invalid(_) => ApiError::bad_request("missing-uuid", detail),
        RegisterError::Configured(_) => ApiError::new(StatusCode::CONFLICT, "configured-cloudlet", detail),
        RegisterError::Unavailable => unavailable(detail),
    }
}

fn endpoint_error(error: &AddressError) -> ApiError {
    let detail = format!("endpoint: {error}");
    match error {
        AddressError::Unresolved { transient: true, .. } => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "endpoint-unresolved", detail).with_retry_after(RETRY)
        }
        AddressError::Unresolved { .. } => ApiError::bad_request("endpoint-unresolved", detail),
        AddressError::Local { .. } => ApiError::bad_request("endpoint-local", detail),
        AddressError::Itself { .. } => ApiError::bad_request("endpoint-itself", detail),
    }
}
