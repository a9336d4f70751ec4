//! The HTTP API beside what every server has.

use std::time::Duration;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use sinfonia_server::ApiError;
use sinfonia_wire::PublicKey;

use crate::reachable::{Prober, Reachability};

/// Longest `wait`, seconds.
const LONGEST: u64 = 30;

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    wait: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Answer {
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Adds `GET /api/v1/peers/{key}/reachable`, which asks `prober`.
pub(crate) fn routes(prober: Prober) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let prober = web::Data::new(prober);
    move |routes| {
        routes.app_data(prober.clone()).service(web::resource("/api/v1/peers/{key}/reachable").get(reachable));
    }
}

async fn reachable(
    prober: web::Data<Prober>,
    key: web::Path<String>,
    query: web::Query<Query>,
) -> Result<impl Responder, ApiError> {
    let key: PublicKey = key.parse().map_err(|error| ApiError::bad_request("invalid-key", format!("{error}")))?;
    if query.wait > LONGEST {
        let detail = format!("wait is {} s, but at most {LONGEST} s are possible", query.wait);
        return Err(ApiError::bad_request("invalid-wait", detail));
    }
    let answer = match prober.probe(&key, Duration::from_secs(query.wait)).await {
        Reachability::Reachable => Answer { reachable: true, reason: None },
        Reachability::Unreachable(reason) => Answer { reachable: false, reason: Some(reason) },
        Reachability::Unknown => {
            let detail = "the cluster has no peer of a deployment with this key; it may have just been made or deleted";
            return Err(ApiError::not_found("unknown-peer", detail));
        }
    };
    Ok(HttpResponse::Ok().json(answer))
}
