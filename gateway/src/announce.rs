//! Keeps the node saying what tier2 tells clients: the gateway's key, where tunnels end, where its API is.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use sinfonia_server::{Readiness, ReadinessTask};
use sinfonia_wire::PublicKey;
use thiserror::Error;

use crate::cluster::{Announcement, Nodes, base_url, kilo_annotation, tunnel_endpoint};
use crate::config::Config;

/// How often to look whether the rest is ready, or to try again.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_LATER: Duration = Duration::from_secs(2);
const BLOCKED: &str = "node";

/// The node is not this gateway's any more.
#[derive(Debug, Error)]
pub enum AnnounceError {
    /// Kilo has come.
    #[error("Kilo has come to the node {node}: it wrote the annotation {annotation}. Remove one of the two")]
    Kilo {
        /// The node.
        node: String,
        /// What Kilo wrote.
        annotation: &'static str,
    },
    /// The watch ended, which it does not by itself.
    #[error("the node cannot be watched any more")]
    Ended,
}

/// Writes the announcement and keeps it.
pub(crate) struct Announcer {
    nodes: Nodes,
    node: String,
    endpoint: Option<String>,
    tunnel_port: u16,
    key: PublicKey,
    api: SocketAddr,
}

impl Announcer {
    /// An announcer for the gateway with this key and API.
    #[must_use]
    pub(crate) fn new(nodes: Nodes, config: &Config, key: PublicKey, api: SocketAddr) -> Self {
        Self {
            nodes,
            node: config.node.clone(),
            endpoint: config.endpoint.clone(),
            tunnel_port: config.tunnel_port,
            key,
            api,
        }
    }

    /// Works until the node is not ours any more, and says why. The node announces nothing before the rest of the
    /// gateway is ready: clients would be sent to what does not work yet.
    pub(crate) async fn run(self, readiness: Readiness) -> AnnounceError {
        while !readiness.pending().is_empty() {
            tokio::time::sleep(RETRY).await;
        }
        let mut blocked = Some(readiness.block(BLOCKED));
        self.withdraw_elsewhere().await;
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.node));
        let mut events = pin!(watch(self.nodes.api(), config).default_backoff());
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(node) | Event::InitApply(node)) => {
                    is_failing = false;
                    if let Some(annotation) = kilo_annotation(node.annotations()) {
                        return AnnounceError::Kilo { node: self.node, annotation };
                    }
                    self.keep(&node, &mut blocked).await;
                }
                Ok(_) => {}
                Err(error) if is_failing => tracing::debug!(%error, "the node cannot be watched"),
                Err(error) => {
                    is_failing = true;
                    tracing::warn!(%error, "the node cannot be watched; it is tried again");
                }
            }
        }
        AnnounceError::Ended
    }

    /// Makes the node say what it should, if it does not.
    async fn keep(&self, node: &Node, blocked: &mut Option<ReadinessTask>) {
        let Some(endpoint) = tunnel_endpoint(self.endpoint.as_deref(), node, self.tunnel_port) else {
            tracing::error!(
                node = self.node,
                "the node has no address that clients could reach: give --endpoint, or correct the annotation \
                 kilo.squat.ai/force-endpoint"
            );
            return;
        };
        let announcement = Announcement { key: self.key, endpoint, api: base_url(self.api) };
        if !announcement.stands_on(node) {
            while let Err(error) = self.nodes.announce(&self.node, &announcement).await {
                tracing::warn!("{error}; it is tried again");
                tokio::time::sleep(RETRY_LATER).await;
            }
            tracing::info!(endpoint = %announcement.endpoint, api = announcement.api, "the node announces the gateway");
        }
        *blocked = None;
    }

    /// Takes from other nodes what this gateway said when it was there.
    async fn withdraw_elsewhere(&self) {
        let others = match self.nodes.others_with_gateway(&self.node).await {
            Ok(others) => others,
            Err(error) => {
                tracing::warn!("{error}; other nodes may still announce a gateway that is not there");
                return;
            }
        };
        for node in others {
            match self.nodes.withdraw(&node).await {
                Ok(()) => tracing::info!(node, "the gateway was on this node before; it announces it no more"),
                Err(error) => tracing::warn!("{error}; it still announces a gateway that is not there"),
            }
        }
    }
}
