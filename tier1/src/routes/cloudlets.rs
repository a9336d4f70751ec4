use crate::{
    deploy::RETRY,
    domain::{Origin, cloudlet::Moment},
    outgoing::Outgoing,
    resolve::AddressError,
    service::{Service, registration},
    store::RegisterError,
};
use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Json, ThinData},
};
use sinfonia_server::ApiError;
use sinfonia_wire::CloudletInfo;

/// `GET /cloudlets/`.
pub(super) async fn list(service: Data<Service>) -> HttpResponse {
    let snapshot = service.registry.snapshot().clone();
    HttpResponse::Ok().json(snapshot.cloudlets().iter().map(|cloudlet| cloudlet.info()).collect::<Vec<_>>())
}

/// `POST /cloudlets/`. Names are resolved when a cloudlet is new or has changed, not at each report.
pub(super) async fn report(
    service: Data<Service>,
    outgoing: ThinData<Outgoing>,
    info: Json<CloudletInfo>,
) -> Result<HttpResponse, ApiError> {
    let result = take(&service, &outgoing, info.into_inner()).await;
    service.metrics.report(result.is_ok());
    result.map(|()| HttpResponse::NoContent().finish())
}

async fn take(service: &Service, outgoing: &Outgoing, info: CloudletInfo) -> Result<(), ApiError> {
    if service.registry.beat(&info, Moment::now()) {
        return Ok(());
    }
    let (resolver, policy) = outgoing.resolver();
    let registration = registration(info, Origin::Reported, resolver, policy, &service.geoip)
        .await
        .map_err(|error| endpoint_error(&error))?;
    service.registry.register(registration).await.map_err(|error| match error {
        RegisterError::Invalid(_) => ApiError::bad_request("missing-uuid", error.to_string()),
        RegisterError::Configured(_) => ApiError::new(StatusCode::CONFLICT, "configured-cloudlet", error.to_string()),
    })
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
