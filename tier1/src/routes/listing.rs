//! `GET /cloudlets/` and `GET /cloudlets/{uuid}`: who is known.

use super::{
    cloudlets::{identity, unknown},
    openapi::{CloudletRefusals, ListRefusals},
};
use crate::{
    domain::{Cloudlet, Snapshot},
    service::Service,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ETAG, EntityTag, Header as _, IfNoneMatch, LINK},
    web::{Data, Path, Query},
};
use serde::{Deserialize, Serialize};
use sinfonia_server::ApiError;
use sinfonia_wire::{CloudletId, CloudletInfo, Location, LocationError, Network};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hasher as _},
    num::NonZeroUsize,
    sync::Arc,
};
use url::form_urlencoded;
use utoipa::IntoParams;

/// Cloudlets on one page at most.
const MOST: usize = 10_000;

/// Which cloudlets.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// How many at most; the others by the link to the next page.
    #[param(required = false, value_type = u32, minimum = 1)]
    limit: Option<NonZeroUsize>,
    /// The last of the page before.
    #[param(required = false, value_type = CloudletId)]
    cursor: Option<CloudletId>,
    /// Those with a place, the nearest to this one first.
    #[param(required = false, value_type = String, example = "40.44,-79.94")]
    near: Option<Place>,
    /// Those that are local to all of this network, or to this address.
    #[param(required = false, value_type = Network)]
    network: Option<Network>,
    /// Those whose name begins so, whatever the case.
    #[param(required = false, value_type = String)]
    name: Option<String>,
}

/// `lat,lon`, as in X-Location.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Place(Location);

impl TryFrom<String> for Place {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, LocationError> {
        text.parse().map(Self)
    }
}

/// Lists all, or some.
#[utoipa::path(
    get,
    path = "/api/v1/cloudlets",
    operation_id = "listCloudlets",
    tag = "cloudlets",
    summary = "The known cloudlets",
    description = "All by uuid, unless the query asks for some.",
    params(Filter),
    responses(
        (status = 200, description = "Those that were asked for. The header Link leads to the next page, if there is one.",
            body = Vec<CloudletInfo>),
        (status = 304, description = "The same as the one with this ETag (If-None-Match)."),
        ListRefusals
    )
)]
pub(super) async fn list(
    request: HttpRequest,
    service: Data<Service>,
    filter: Query<Filter>,
) -> Result<HttpResponse, ApiError> {
    if filter.near.is_some() && filter.cursor.is_some() {
        let detail = "near has no pages: ask for the nearest with limit, without cursor";
        return Err(ApiError::bad_request("invalid-query", detail));
    }
    let limit = filter.limit.map(|limit| limit.get().min(MOST));
    let snapshot = service.registry.snapshot().clone();
    let (page, is_last) = page(&snapshot, &filter, limit.unwrap_or(usize::MAX));
    let next = page.last().filter(|_| !is_last && filter.near.is_none()).map(|last| next(&filter, last.id, limit));
    answer(&request, &page, next)
}

/// One of them.
#[utoipa::path(
    get,
    path = "/api/v1/cloudlets/{uuid}",
    operation_id = "getCloudlet",
    tag = "cloudlets",
    summary = "One cloudlet",
    description = "As it last reported itself.",
    params(("uuid" = CloudletId, Path, description = "The cloudlet.")),
    responses(
        (status = 200, description = "It.", body = CloudletInfo),
        (status = 304, description = "The same as the one with this ETag (If-None-Match)."),
        CloudletRefusals
    )
)]
pub(super) async fn get(
    request: HttpRequest,
    service: Data<Service>,
    uuid: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = identity(&uuid)?;
    let cloudlet = service.registry.snapshot().get(id).cloned().ok_or_else(|| unknown(id))?;
    answer(&request, &cloudlet, None)
}

/// At most so many, and whether there are no more.
fn page<'a>(snapshot: &'a Snapshot, filter: &Filter, limit: usize) -> (Vec<&'a Arc<Cloudlet>>, bool) {
    let name = filter.name.as_ref().map(|name| name.to_lowercase());
    let suits = |cloudlet: &Arc<Cloudlet>| {
        let has_name = name.as_ref().is_none_or(|name| cloudlet.name.to_lowercase().starts_with(name));
        let holds = |network: Network| cloudlet.local_networks.iter().any(|local| local.net().contains(&network.net()));
        has_name && filter.network.is_none_or(holds)
    };
    let mut found: Vec<_> = match filter.near {
        Some(Place(near)) => {
            // One with several places comes once, at the nearest.
            let mut seen = HashSet::new();
            let indices = snapshot.nearest(near).flat_map(|(_, members)| members.rotated(0));
            let nearest = indices.filter_map(|index| snapshot.at(index)).filter(|cloudlet| seen.insert(cloudlet.id));
            nearest.filter(|cloudlet| suits(cloudlet)).take(limit.saturating_add(1)).collect()
        }
        None => {
            let rest = snapshot.cloudlets_after(filter.cursor);
            rest.filter(|cloudlet| suits(cloudlet)).take(limit.saturating_add(1)).collect()
        }
    };
    let is_last = found.len() <= limit;
    found.truncate(limit);
    (found, is_last)
}

/// The next page's link (RFC 8288), relative to this one's.
fn next(filter: &Filter, last: CloudletId, limit: Option<usize>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("cursor", &last.to_string());
    let limit = limit.map(|limit| limit.to_string());
    let network = filter.network.map(|network| network.to_string());
    for (name, value) in [("limit", &limit), ("network", &network), ("name", &filter.name)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("<?{}>; rel=\"next\"", query.finish())
}

/// Answers 304 to those who have it already.
fn answer(request: &HttpRequest, body: &impl Serialize, next: Option<String>) -> Result<HttpResponse, ApiError> {
    let body = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        ApiError::new(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "it cannot be written")
    })?;
    // Replicas of one version agree on it. Weak, since the answer may be compressed.
    let mut hasher = DefaultHasher::new();
    hasher.write(&body);
    hasher.write(next.as_deref().unwrap_or_default().as_bytes());
    let tag = EntityTag::new_weak(format!("{:016x}", hasher.finish()));
    let is_known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(IfNoneMatch::Any) => request.headers().contains_key("if-none-match"),
        Err(_) => false,
    };
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, tag.to_string()));
    if let Some(next) = next {
        response.insert_header((LINK, next));
    }
    if is_known {
        return Ok(response.finish());
    }
    Ok(response.content_type("application/json").body(body))
}
