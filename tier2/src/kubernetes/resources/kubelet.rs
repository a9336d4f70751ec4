//! The cluster's resources from the kubelets themselves (stats/summary).

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use kube::Config;
use serde::Deserialize;
use sinfonia_wire::Resources;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{SourceError, Totals, put};
use crate::{
    kubernetes::{
        fetch::{FetchError, Server},
        view::{ClusterView, NodeFacts},
    },
    resources::transferred,
};

const PORT: u16 = 10250;

/// How many kubelets are asked at the same time.
const AT_ONCE: usize = 8;

/// The kubelets, and what they said last.
pub(super) struct Kubelets {
    config: Config,
    insecure_tls: bool,
    /// By name of the node.
    known: HashMap<String, Known>,
}

struct Known {
    address: SocketAddr,
    server: Server,
    counters: Option<Counters>,
    rates: Option<(f64, f64)>,
}

/// Bytes received and sent by each interface at a time, Unix seconds.
#[derive(Debug, Clone, PartialEq)]
struct Counters {
    at: f64,
    interfaces: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    node: Stats,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    #[serde(default)]
    cpu: Cpu,
    #[serde(default)]
    memory: Memory,
    #[serde(default)]
    network: Network,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cpu {
    usage_nano_cores: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Memory {
    working_set_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    time: String,
    interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    name: String,
    #[serde(default)]
    rx_bytes: u64,
    #[serde(default)]
    tx_bytes: u64,
}

impl Kubelets {
    /// None was asked yet. `config` tells the credentials and the authority of the cluster.
    pub(super) fn new(config: Config, insecure_tls: bool) -> Self {
        Self { config, insecure_tls, known: HashMap::new() }
    }

    /// What the nodes that answer use. Rates are between two answers of a node, so the first has none.
    ///
    /// # Errors
    /// When none answers.
    pub(super) async fn ask(&mut self, view: &ClusterView) -> Result<Resources, SourceError> {
        self.known.retain(|name, _| view.nodes.iter().any(|node| node.name == *name));
        let mut asked = vec![];
        for node in view.nodes.iter().filter(|node| node.ready) {
            if let Some(&address) = node.addresses.first() {
                asked.push(summary(node, self.server(node, SocketAddr::new(address, PORT))?).boxed());
            }
        }
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let mut totals = Sum::default();
        let mut failure = None;
        let mut answered = false;
        for (node, answer) in answers {
            match (answer, self.known.get_mut(&node.name)) {
                (Ok(summary), Some(known)) => {
                    answered = true;
                    totals.add(node, &summary.node, known.rates(&summary.node.network));
                }
                (Err(error), _) => failure = Some(error),
                (Ok(_), None) => {}
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            _ => Ok(totals.resources()),
        }
    }

    fn server(&mut self, node: &NodeFacts, address: SocketAddr) -> Result<Server, SourceError> {
        if let Some(known) = self.known.get(&node.name).filter(|known| known.address == address) {
            return Ok(known.server.clone());
        }
        let name = format!("the kubelet of node {}", node.name);
        let mut config = self.config.clone();
        config.cluster_url = format!("https://{address}/").parse().map_err(|error: http::uri::InvalidUri| {
            FetchError::Unusable { server: name.clone(), reason: error.to_string() }
        })?;
        config.tls_server_name = None;
        config.proxy_url = None;
        config.accept_invalid_certs = self.insecure_tls;
        let server = Server::with(config, name)?;
        let known = Known { address, server: server.clone(), counters: None, rates: None };
        self.known.insert(node.name.clone(), known);
        Ok(server)
    }
}

async fn summary(node: &NodeFacts, server: Server) -> (&NodeFacts, Result<Summary, SourceError>) {
    let summary = server.get("/stats/summary").await.map_err(SourceError::from).and_then(|answer| {
        let server = server.name().to_owned();
        let nonsense = |reason| SourceError::Nonsense { server, what: "summary of its statistics", reason };
        serde_json::from_slice(&answer).map_err(nonsense)
    });
    (node, summary)
}

impl Known {
    /// Bytes per second received and sent since the last answer. The kubelet measures every 10 s or so; until it has
    /// measured again, the last rates hold.
    fn rates(&mut self, network: &Network) -> Option<(f64, f64)> {
        let now = counters(network)?;
        let rates = match &self.counters {
            Some(then) if now.at > then.at => {
                let (received, sent) = transferred(&then.interfaces, &now.interfaces);
                let seconds = now.at - then.at;
                Some((received as f64 / seconds, sent as f64 / seconds))
            }
            Some(_) => self.rates,
            None => None,
        };
        self.counters = Some(now);
        self.rates = rates;
        rates
    }
}

fn counters(network: &Network) -> Option<Counters> {
    let at = OffsetDateTime::parse(&network.time, &Rfc3339).ok()?.unix_timestamp_nanos() as f64 / 1e9;
    let outside = network.interfaces.iter().filter(|interface| interface.name != "lo");
    let interfaces =
        outside.map(|interface| (interface.name.clone(), (interface.rx_bytes, interface.tx_bytes))).collect();
    Some(Counters { at, interfaces })
}

/// Sums over nodes.
#[derive(Debug, Default)]
struct Sum {
    cpu: Totals,
    memory: Totals,
    rates: Option<(f64, f64)>,
}

impl Sum {
    fn add(&mut self, node: &NodeFacts, stats: &Stats, rates: Option<(f64, f64)>) {
        self.cpu.add(stats.cpu.usage_nano_cores.map(|nano| nano as f64 / 1e9), node.cpus);
        self.memory.add(stats.memory.working_set_bytes.map(|bytes| bytes as f64), node.memory);
        if let Some((received, sent)) = rates {
            let (all_received, all_sent) = self.rates.unwrap_or_default();
            self.rates = Some((all_received + received, all_sent + sent));
        }
    }

    fn resources(&self) -> Resources {
        let mut resources = Resources::new();
        put(&mut resources, Resources::CPU_RATIO, self.cpu.ratio());
        put(&mut resources, Resources::MEM_RATIO, self.memory.ratio());
        if let Some((received, sent)) = self.rates {
            put(&mut resources, Resources::NET_RX_RATE, received);
            put(&mut resources, Resources::NET_TX_RATE, sent);
        }
        resources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::view::tests::node;

    /// As the kubelet of Kubernetes 1.35 answers, shortened.
    const SUMMARY: &str = include_str!("summary.json");

    fn network(time: &str, interfaces: &[(&str, u64, u64)]) -> Network {
        let interface = |(name, rx_bytes, tx_bytes): &(&str, u64, u64)| Interface {
            name: (*name).to_owned(),
            rx_bytes: *rx_bytes,
            tx_bytes: *tx_bytes,
        };
        Network { time: time.to_owned(), interfaces: interfaces.iter().map(interface).collect() }
    }

    async fn known() -> Known {
        let server = Server::at(&"http://127.0.0.1:9/".parse().unwrap(), "nobody").unwrap();
        Known { address: ([127, 0, 0, 1], 9).into(), server, counters: None, rates: None }
    }

    #[test]
    fn a_summary_is_read() {
        let summary: Summary = serde_json::from_str(SUMMARY).unwrap();
        let mut sum = Sum::default();
        let memory = summary.node.memory.working_set_bytes.unwrap() as f64 * 4.0;
        let node = NodeFacts { cpus: Some(2.0), memory: Some(memory), ..node("sinfonia-worker") };
        sum.add(&node, &summary.node, Some((1000.0, 500.0)));
        sum.add(&node, &summary.node, Some((1.0, 2.0)));
        let resources = sum.resources();
        let cpu = resources.get(Resources::CPU_RATIO).unwrap();
        assert!((cpu - summary.node.cpu.usage_nano_cores.unwrap() as f64 / 2e9).abs() < 1e-9);
        assert_eq!(resources.get(Resources::MEM_RATIO), Some(0.25));
        assert_eq!(resources.get(Resources::NET_RX_RATE), Some(1001.0));
        assert_eq!(resources.get(Resources::NET_TX_RATE), Some(502.0));
        let counters = counters(&summary.node.network).unwrap();
        assert_eq!(counters.interfaces.keys().collect::<Vec<_>>(), ["cni0", "eth0"]);
    }

    #[test]
    fn what_a_kubelet_does_not_tell_is_left_out() {
        let summary: Summary = serde_json::from_str(r#"{"node":{}}"#).unwrap();
        let mut sum = Sum::default();
        sum.add(&NodeFacts { cpus: Some(2.0), ..node("a") }, &summary.node, None);
        assert!(sum.resources().is_empty());
        assert!(counters(&summary.node.network).is_none());
        assert!(serde_json::from_str::<Summary>("{}").is_err());
    }

    #[tokio::test]
    async fn rates_are_between_two_measurements() {
        let mut known = known().await;
        let rates = [
            network("2026-11-24T19:36:00Z", &[("eth0", 1000, 100), ("lo", 5, 5)]),
            network("2026-11-24T19:36:00Z", &[("eth0", 1000, 100), ("lo", 5, 5)]),
            network("2026-11-24T19:36:10Z", &[("eth0", 3000, 200), ("lo", 900, 900), ("new0", 7000, 7)]),
            network("2026-11-24T19:36:10Z", &[("eth0", 3000, 200)]),
            network("soon", &[]),
            network("2026-11-24T19:36:20Z", &[("eth0", 0, 300)]),
        ]
        .map(|network| known.rates(&network));
        let expected = [None, None, Some((200.0, 10.0)), Some((200.0, 10.0)), None, Some((0.0, 10.0))];
        assert_eq!(rates, expected);
    }
}
