//! Whether a client would reach the services of its deployment at this moment.
//!
//! A ready pod is not enough: the node where tunnels end learns of it a little later. Our gateway tells; beside a real
//! Kilo the services are tried from here.

use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{ends::Ends, failure::Failure, fetch, objects::Identity, ports};

/// How long the gateway is asked to wait before it answers that it is not so yet, in seconds.
const WAIT: u64 = 3;

/// Pause before the gateway is looked for and asked again when it does not answer.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Reachable {
    reachable: bool,
    reason: Option<String>,
}

/// Waits until the services answer, wherever tunnels end meanwhile.
///
/// # Errors
/// When the time is up, or the API server cannot be asked for the services.
pub(super) async fn await_reachable(
    client: &Client,
    ends: &Ends,
    identity: &Identity,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut reason = "the gateway was not asked".to_owned();
    while Instant::now() < deadline {
        match ends.current().await {
            Ok(end) => match &end.gateway {
                Some(gateway) => match ask_gateway(gateway, identity).await {
                    Ok(Reachable { reachable: true, .. }) => return Ok(()),
                    Ok(answer) => {
                        reason = answer.reason.unwrap_or_else(|| "no reason was given".to_owned());
                        continue;
                    }
                    // It may be restarting, or not have seen the peer yet.
                    Err(error) => reason = error,
                },
                None => return try_services(client, identity, deadline).await,
            },
            Err(failure) => reason = failure.message,
        }
        tokio::time::sleep(RETRY).await;
    }
    let message = format!("the backend runs, but its services cannot be reached: {reason}");
    Err(Failure::new("backend-never-ready", message))
}

/// Its answer, which it gives when they are reachable or some seconds later.
async fn ask_gateway(gateway: &Url, identity: &Identity) -> Result<Reachable, String> {
    let server = fetch::Server::at(gateway, "the gateway").map_err(|error| error.to_string())?;
    let path = format!("/api/v1/peers/{}/reachable?wait={WAIT}", identity.id.key.url_safe());
    let body = server.get(&path).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

async fn try_services(client: &Client, identity: &Identity, deadline: Instant) -> Result<(), Failure> {
    let services = ports::tcp_services(client, &identity.name).await;
    let services = services.map_err(|error| Failure::new("cluster-unreachable", error.to_string()))?;
    let unanswered = |error: ports::Unanswered| Failure::new("backend-never-ready", error.to_string());
    ports::probe(&services, deadline).await.map_err(unanswered)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        deployment::DeploymentId,
        kubernetes::{
            ends,
            fetch::tests::{Behaviour, Fake},
            view::{ClusterWatch, FRESH},
        },
    };

    fn identity() -> Identity {
        Identity {
            id: DeploymentId { application: sinfonia_wire::ApplicationId::HELLOWORLD, key: [7; 32].into() },
            name: "small-cat".parse().unwrap(),
            addresses: vec![],
            created: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_gateway_that_moves_meanwhile_is_asked_where_it_is() {
        let before = Fake::always(Behaviour::Drops).await;
        let after = Fake::always(Behaviour::Answers(json!({"reachable": true}).to_string())).await;
        let has_moved = Arc::new(AtomicBool::new(false));
        let (moved, urls) = (Arc::clone(&has_moved), [before.url.clone(), after.url.clone()]);
        let gateway = move || json!({"findcloudlet.org/gateway": urls[usize::from(moved.load(Ordering::SeqCst))]});
        let api = ends::tests::cluster(gateway).await;
        let (client, ends) = (api.client(), Ends::new(ClusterWatch::new(api.client()), None));
        let deadline = Instant::now() + Duration::from_secs(3600);
        let waiting = tokio::spawn(async move { await_reachable(&client, &ends, &identity(), deadline).await });
        before.asked(1).await;
        has_moved.store(true, Ordering::SeqCst);
        // What is known of the cluster is looked up again when it is no longer fresh.
        tokio::time::pause();
        tokio::time::advance(FRESH).await;
        tokio::time::resume();
        waiting.await.unwrap().unwrap();
        assert_eq!(after.requests(), 1);
    }

    #[tokio::test]
    async fn services_that_cannot_be_asked_for_are_no_verdict() {
        let api = ends::tests::cluster(|| json!({})).await;
        let (client, ends) = (api.client(), Ends::new(ClusterWatch::new(api.client()), None));
        let failure = await_reachable(&client, &ends, &identity(), Instant::now() + Duration::from_secs(3600)).await;
        assert_eq!(failure.unwrap_err().code, "cluster-unreachable");
    }
}
