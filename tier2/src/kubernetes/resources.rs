//! What the cluster has to spare, in the units of the wire: from Prometheus if there is one, else from metrics-server,
//! else from the kubelets. What cannot be told is left out.

use std::time::Duration;

use kube::{Client, Config};
use sinfonia_wire::Resources;
use thiserror::Error;
use tokio::time::Instant;

use self::kubelet::Kubelets;
use super::{
    fetch::{FetchError, Server},
    prometheus::{Prometheus, PrometheusError},
    said::Said,
    view::{ClusterView, ClusterWatch, ViewError},
};

mod kubelet;
mod metrics_api;
mod queries;
#[cfg(test)]
mod tests;

/// How old figures may be that are given again.
const FRESH: Duration = Duration::from_secs(10);

/// Asks for the cluster's resources.
pub struct ClusterResources {
    watch: ClusterWatch,
    prometheus: Prometheus,
    api: Server,
    kubelets: Kubelets,
    said: Said,
    latest: Option<(Instant, Resources)>,
}

/// Why there are no figures.
#[derive(Debug, Error)]
enum SourceError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{server} answers what is no {what}: {reason}")]
    Nonsense { server: String, what: &'static str, reason: serde_json::Error },
}

impl ClusterResources {
    /// Has not asked yet. `config` and `client` are those of the cluster; kubelets are asked with the same credentials,
    /// and believed without a valid certificate if `kubelet_insecure_tls` says so.
    #[must_use]
    pub fn new(
        watch: ClusterWatch,
        prometheus: Prometheus,
        config: Config,
        client: Client,
        kubelet_insecure_tls: bool,
    ) -> Self {
        Self {
            watch,
            prometheus,
            api: Server::api(client),
            kubelets: Kubelets::new(config, kubelet_insecure_tls),
            said: Said::new("the cluster's resources are not reported"),
            latest: None,
        }
    }

    /// The cluster's resources as they were at most 10 s ago. Failures are logged when they begin and when they end.
    pub async fn sample(&mut self) -> Resources {
        if let Some((at, resources)) = &self.latest
            && at.elapsed() < FRESH
        {
            return resources.clone();
        }
        let result = self.ask().await;
        self.said.note(&result);
        let resources = result.unwrap_or_default();
        self.latest = Some((Instant::now(), resources.clone()));
        resources
    }

    /// As [`Self::sample`], but with the reason if there are no figures.
    pub(super) async fn try_sample(&mut self) -> Result<Resources, String> {
        self.ask().await.map_err(|error| error.to_string())
    }

    async fn ask(&mut self) -> Result<Resources, SourceError> {
        if let Some(server) = self.prometheus.server().await? {
            let resources = queries::ask(&server).await?;
            // A Prometheus that does not scrape the nodes knows less than they do.
            if !resources.is_empty() || self.prometheus.is_given() {
                return Ok(resources);
            }
        }
        let view = self.watch.look().await?;
        match metrics_api::ask(&self.api, &view).await {
            Err(SourceError::Fetch(error)) if error.is_absent() => self.kubelets.ask(&view).await,
            result => result,
        }
    }
}

/// Adds up what nodes use and have.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    used: f64,
    whole: f64,
}

impl Totals {
    /// A node of which either is unknown does not count.
    fn add(&mut self, used: Option<f64>, whole: Option<f64>) {
        if let (Some(used), Some(whole)) = (used, whole) {
            self.used += used;
            self.whole += whole;
        }
    }

    fn ratio(self) -> f64 {
        self.used / self.whole
    }
}

/// Sets a figure if it is finite: a ratio within 0..1, a rate not below 0.
fn put(resources: &mut Resources, name: &'static str, value: f64) {
    let most = match name {
        Resources::NET_RX_RATE | Resources::NET_TX_RATE => f64::MAX,
        _ => 1.0,
    };
    if value.is_finite() {
        // Finite values are all it asks for.
        let _ = resources.insert(name, value.clamp(0.0, most));
    }
}

/// The node's facts by its name.
fn node<'a>(view: &'a ClusterView, name: &str) -> Option<&'a super::view::NodeFacts> {
    view.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).ok().map(|index| &view.nodes[index])
}
