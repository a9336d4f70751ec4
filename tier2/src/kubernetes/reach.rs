//! Whether a client would reach the services of its deployment at this moment.
//!
//! A ready pod is not enough: the node where tunnels end learns of it a little later. Our gateway tells; beside a real
//! Kilo the services are tried from here.

use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{failure::Failure, fetch, objects::Identity, ports};

/// How long the gateway is asked to wait before it answers that it is not so yet, in seconds.
const WAIT: u64 = 3;

/// Pause before the gateway is asked again when it does not answer.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Reachable {
    reachable: bool,
    reason: Option<String>,
}

/// Waits until the services answer.
///
/// # Errors
/// When the time is up.
pub(super) async fn await_reachable(
    client: &Client,
    gateway: Option<&Url>,
    identity: &Identity,
    deadline: Instant,
) -> Result<(), Failure> {
    match gateway {
        Some(gateway) => ask_gateway(gateway, identity, deadline).await,
        None => try_services(client, identity, deadline).await,
    }
}

async fn ask_gateway(gateway: &Url, identity: &Identity, deadline: Instant) -> Result<(), Failure> {
    let path = format!("/api/v1/peers/{}/reachable?wait={WAIT}", identity.id.key.url_safe());
    let unreachable = |reason: String| {
        Failure::new("backend-never-ready", format!("the backend runs, but its services cannot be reached: {reason}"))
    };
    let server = fetch::Server::at(gateway, "the gateway").map_err(|error| unreachable(error.to_string()))?;
    let mut reason = "the gateway does not answer".to_owned();
    while Instant::now() < deadline {
        let answer = server.get(&path).await.map_err(|error| error.to_string());
        match answer.and_then(|body| serde_json::from_slice(&body).map_err(|error| error.to_string())) {
            Ok(Reachable { reachable: true, .. }) => return Ok(()),
            Ok(answer) => reason = answer.reason.unwrap_or_else(|| "no reason was given".to_owned()),
            Err(error) => {
                // It may be restarting, or not have seen the peer yet.
                reason = error;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    Err(unreachable(reason))
}

async fn try_services(client: &Client, identity: &Identity, deadline: Instant) -> Result<(), Failure> {
    let services = ports::tcp_services(client, &identity.name).await;
    let services = services.map_err(|error| Failure::new("cluster-unreachable", error.to_string()))?;
    let unanswered = |error: ports::Unanswered| Failure::new("backend-never-ready", error.to_string());
    ports::probe(&services, deadline).await.map_err(unanswered)
}
