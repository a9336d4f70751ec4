//! Whether a client would reach the services of its deployment at this moment.
//!
//! A ready pod is not enough: the node where tunnels end learns of it a little later. Our gateway tells; beside a real
//! Kilo the services are tried from here.

use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{ends::Ends, failure::Failure, fetch, networks::Networks, objects::Identity, ports};

/// How long the gateway is asked to wait before it answers that it is not so yet, in seconds.
const WAIT: u64 = 3;

/// Pause before the gateway is looked for and asked again when it does not answer.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Reachable {
    reachable: bool,
    reason: Option<String>,
}

/// Why it is not so.
#[derive(Debug)]
pub(super) enum Unreached {
    /// It will not be.
    Never(Failure),
    /// It cannot be told, or not from where traffic is let in.
    Unknown(Failure),
}

/// Waits until the services answer from where `networks` let tunnels' traffic in.
///
/// # Errors
/// When the time is up, tunnels end elsewhere by now, or the API server cannot be asked for the services.
pub(super) async fn await_reachable(
    client: &Client,
    ends: &Ends,
    networks: &Networks,
    identity: &Identity,
    deadline: Instant,
) -> Result<(), Unreached> {
    loop {
        let reason = match ends.current().await {
            Ok(end) if end.networks.sources != networks.sources => {
                let message = "clients' tunnels end elsewhere since the installation began";
                return Err(Unreached::Unknown(Failure::new("no-tunnel", message)));
            }
            Ok(end) => match &end.gateway {
                Some(gateway) => match ask_gateway(gateway, identity).await {
                    Ok(Reachable { reachable: true, .. }) => return Ok(()),
                    Ok(answer) => answer.reason.unwrap_or_else(|| "no reason was given".to_owned()),
                    // It may be restarting, or not have seen the peer yet.
                    Err(error) => error,
                },
                None => return try_services(client, identity, deadline).await,
            },
            Err(failure) => failure.message,
        };
        if Instant::now() >= deadline {
            let message = format!("the backend runs, but its services cannot be reached: {reason}");
            return Err(Unreached::Never(Failure::new("backend-never-ready", message)));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Its answer, which it gives when they are reachable or some seconds later.
async fn ask_gateway(gateway: &Url, identity: &Identity) -> Result<Reachable, String> {
    let server = fetch::Server::at(gateway, "the gateway").map_err(|error| error.to_string())?;
    let path = format!("/api/v1/peers/{}/reachable?wait={WAIT}", identity.id.key.url_safe());
    let body = server.get(&path).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

async fn try_services(client: &Client, identity: &Identity, deadline: Instant) -> Result<(), Unreached> {
    let services = ports::tcp_services(client, &identity.name).await;
    let unknown = |error: ports::PortsError| Unreached::Unknown(Failure::new("cluster-unreachable", error.to_string()));
    let unanswered =
        |error: ports::Unanswered| Unreached::Never(Failure::new("backend-never-ready", error.to_string()));
    ports::probe(&services.map_err(unknown)?, deadline).await.map_err(unanswered)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use serde_json::json;

    use super::*;
    use crate::kubernetes::{
        ends,
        fetch::tests::{Behaviour, Fake},
        objects::tests::identity,
        view::{ClusterWatch, FRESH},
    };

    /// A cluster whose gateway is the second one when `has_moved`.
    async fn cluster(gateways: [&Fake; 2], has_moved: &Arc<AtomicBool>) -> Fake {
        let (moved, urls) = (Arc::clone(has_moved), gateways.map(|gateway| gateway.url.clone()));
        let gateway = move || json!({"findcloudlet.org/gateway": urls[usize::from(moved.load(Ordering::SeqCst))]});
        ends::tests::cluster(gateway).await
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[tokio::test]
    async fn a_gateway_that_comes_back_with_another_url_is_asked_there() {
        let before = Fake::always(Behaviour::Drops).await;
        let after = Fake::always(Behaviour::Answers(json!({"reachable": true}).to_string())).await;
        let has_moved = Arc::new(AtomicBool::new(false));
        let api = cluster([&before, &after], &has_moved).await;
        let (client, ends) = (api.client(), Ends::new(ClusterWatch::new(api.client()), None));
        let networks = ends.current().await.unwrap().networks;
        let waiting =
            tokio::spawn(async move { await_reachable(&client, &ends, &networks, &identity(), later()).await });
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
    async fn where_traffic_is_not_let_in_from_nothing_is_tried() {
        let gateway = Fake::always(Behaviour::Answers(json!({"reachable": true}).to_string())).await;
        let api = cluster([&gateway, &gateway], &Arc::default()).await;
        let (client, ends) = (api.client(), Ends::new(ClusterWatch::new(api.client()), None));
        let elsewhere = Networks::default();
        let unreached = await_reachable(&client, &ends, &elsewhere, &identity(), later()).await.unwrap_err();
        assert!(matches!(unreached, Unreached::Unknown(failure) if failure.code == "no-tunnel"));
        assert_eq!(gateway.requests(), 0);
    }

    #[tokio::test]
    async fn services_that_cannot_be_asked_for_are_no_verdict() {
        let api = ends::tests::cluster(|| json!({})).await;
        let (client, ends) = (api.client(), Ends::new(ClusterWatch::new(api.client()), None));
        let networks = ends.current().await.unwrap().networks;
        // Asked for once, although it is late.
        let late = Instant::now();
        let unreached = await_reachable(&client, &ends, &networks, &identity(), late).await.unwrap_err();
        assert!(matches!(unreached, Unreached::Unknown(failure) if failure.code == "cluster-unreachable"));
    }
}
