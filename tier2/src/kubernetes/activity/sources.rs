//! The figures of the clients' tunnels, from our gateway or from Prometheus.

use std::{collections::HashMap, str};

use sinfonia_wire::PublicKey;
use thiserror::Error;
use url::Url;

use crate::kubernetes::{
    exposition::{self, Malformed},
    fetch::{FetchError, Server},
    prometheus::{self, Prometheus, PrometheusError, Series},
    tunnel::{NoTunnelEnd, TunnelEnd, tunnel_end},
    view::{ClusterWatch, ViewError},
};

/// Unix time, seconds.
const HANDSHAKE: &str = "wireguard_last_handshake_seconds";
/// Bytes.
const RECEIVED: &str = "wireguard_received_bytes_total";
/// The client's key, in base64.
const LABEL: &str = "public_key";

/// The figures of one client. With several nodes, those of the most active.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Observation {
    /// When its last handshake was, Unix seconds; 0 if there was none.
    pub(crate) handshake: f64,
    /// Bytes received from it.
    pub(crate) received: f64,
    /// When these figures were taken, Unix seconds; now, unless stated.
    pub(crate) at: Option<f64>,
}

/// The figures of all clients.
pub(crate) type Observations = HashMap<PublicKey, Observation>;

/// Why there are no figures.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    /// Where to ask cannot be found out.
    #[error(transparent)]
    View(#[from] ViewError),
    /// There is nobody to ask.
    #[error(transparent)]
    NoEnd(#[from] NoTunnelEnd),
    /// Kilo tells nothing itself.
    #[error(
        "node {0} ends tunnels by Kilo, and there is no Prometheus that tells its metrics: give --prometheus, or install \
         kube-prometheus-stack in namespace monitoring and let it scrape Kilo"
    )]
    NoPrometheus(String),
    /// The gateway.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Prometheus.
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    /// Not metrics.
    #[error("{server} answers what are no metrics: {reason}")]
    Nonsense { server: String, reason: Malformed },
    /// Not text.
    #[error("{0} answers what are no metrics: it is no text")]
    NoText(String),
    /// NaN, infinite or negative.
    #[error("{server} says that {metric} of a client is {value}")]
    Value { server: String, metric: &'static str, value: f64 },
    /// No figures at all.
    #[error("{0} knows no {RECEIVED}: it does not see the program that ends the tunnels")]
    Missing(String),
}

/// Asks whoever is to be asked.
pub(crate) async fn observe(watch: &ClusterWatch, prometheus: &Prometheus) -> Result<Observations, SourceError> {
    if prometheus.is_given() {
        let server = prometheus.server().await?;
        return from_given(&server.ok_or(NoTunnelEnd)?, watch).await;
    }
    let end = end(watch).await?;
    if let Some(gateway) = &end.gateway {
        return from_gateway(gateway).await;
    }
    match prometheus.server().await? {
        Some(server) => from_prometheus(&server).await,
        None => Err(SourceError::NoPrometheus(end.node)),
    }
}

/// From a Prometheus that may be there for resources and not know of our gateway, but of others.
async fn from_given(server: &Server, watch: &ClusterWatch) -> Result<Observations, SourceError> {
    let known = from_prometheus(server).await;
    if !matches!(known, Ok(_) | Err(SourceError::Missing(_))) {
        return known;
    }
    let Ok(TunnelEnd { gateway: Some(gateway), .. }) = end(watch).await else { return known };
    match (known, from_gateway(&gateway).await) {
        (Ok(known), Ok(own)) => Ok(own.into_iter().chain(known).collect()),
        (Ok(known), Err(_)) => Ok(known),
        (Err(_), own) => own,
    }
}

async fn end(watch: &ClusterWatch) -> Result<TunnelEnd, SourceError> {
    let view = watch.look_or_remember().await?;
    Ok(tunnel_end(&view)?)
}

async fn from_gateway(url: &Url) -> Result<Observations, SourceError> {
    let server = Server::at(url, "the gateway")?;
    let answer = server.get("/metrics").await?;
    let name = || server.name().to_owned();
    let text = str::from_utf8(&answer).map_err(|_| SourceError::NoText(name()))?;
    let samples = exposition::samples(text, &[HANDSHAKE, RECEIVED], LABEL)
        .map_err(|reason| SourceError::Nonsense { server: name(), reason })?;
    let of = |metric: &'static str| {
        let samples = samples.iter().filter(move |sample| sample.name == metric);
        samples.map(|sample| (sample.label.as_deref(), sample.value))
    };
    gather(server.name(), of(HANDSHAKE), of(RECEIVED), [].into_iter())
}

/// With several nodes, as Kilo has them, a client counts as active as it is on any; bytes add up, so that those on a node
/// that received fewer are seen too.
async fn from_prometheus(server: &Server) -> Result<Observations, SourceError> {
    let (handshakes, received, times) = (
        format!("max by ({LABEL}) ({HANDSHAKE})"),
        format!("sum by ({LABEL}) ({RECEIVED})"),
        format!("max by ({LABEL}) (timestamp({RECEIVED}))"),
    );
    let (handshakes, received, times) = futures_util::try_join!(
        prometheus::query(server, &handshakes),
        prometheus::query(server, &received),
        prometheus::query(server, &times),
    )?;
    gather(server.name(), labelled(&handshakes), labelled(&received), labelled(&times))
}

fn labelled(series: &[Series]) -> impl Iterator<Item = (Option<&str>, f64)> {
    series.iter().map(|series| (series.labels.get(LABEL).map(String::as_str), series.value))
}

/// Puts the metrics together. What bears no key of a client does not count.
fn gather<'a>(
    server: &str,
    handshakes: impl Iterator<Item = (Option<&'a str>, f64)>,
    received: impl Iterator<Item = (Option<&'a str>, f64)>,
    times: impl Iterator<Item = (Option<&'a str>, f64)>,
) -> Result<Observations, SourceError> {
    let mut seen = Observations::new();
    let checked = |metric, (label, value): (Option<&str>, f64)| {
        let key: Option<PublicKey> = label.and_then(|label| label.parse().ok());
        match key {
            Some(_) if !(value.is_finite() && value >= 0.0) => {
                Err(SourceError::Value { server: server.to_owned(), metric, value })
            }
            key => Ok(key.map(|key| (key, value))),
        }
    };
    for sample in received {
        if let Some((key, value)) = checked(RECEIVED, sample)? {
            seen.entry(key).or_default().received += value;
        }
    }
    if seen.is_empty() {
        return Err(SourceError::Missing(server.to_owned()));
    }
    for sample in handshakes {
        if let Some((key, value)) = checked(HANDSHAKE, sample)? {
            let handshake = &mut seen.entry(key).or_default().handshake;
            *handshake = handshake.max(value);
        }
    }
    for sample in times {
        if let Some((key, value)) = checked(RECEIVED, sample)? {
            seen.entry(key).or_default().at = Some(value);
        }
    }
    Ok(seen)
}
