//! The cluster's resources from metrics-server (metrics.k8s.io/v1beta1): processors and memory.

use std::collections::HashMap;

use serde::Deserialize;
use sinfonia_wire::Resources;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{SourceError, Totals, node, put};
use crate::kubernetes::{fetch::Server, quantity::amount, view::ClusterView};

/// Figures older than this are those of a node that is gone.
const OLDEST: Duration = Duration::minutes(5);

#[derive(Debug, Deserialize)]
struct NodeMetricsList {
    items: Vec<NodeMetrics>,
}

#[derive(Debug, Deserialize)]
struct NodeMetrics {
    metadata: Metadata,
    timestamp: String,
    usage: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

pub(super) async fn ask(api: &Server, view: &ClusterView) -> Result<Resources, SourceError> {
    let answer = api.get("/apis/metrics.k8s.io/v1beta1/nodes").await?;
    let list = parse(&answer).map_err(|reason| SourceError::Nonsense {
        server: "metrics-server".to_owned(),
        what: "list of NodeMetrics",
        reason,
    })?;
    Ok(ratios(&list, view, OffsetDateTime::now_utc()))
}

fn parse(answer: &[u8]) -> Result<NodeMetricsList, serde_json::Error> {
    serde_json::from_slice(answer)
}

/// What is used of what nodes have for pods.
fn ratios(list: &NodeMetricsList, view: &ClusterView, now: OffsetDateTime) -> Resources {
    let (mut cpu, mut memory) = (Totals::default(), Totals::default());
    for metrics in &list.items {
        let fresh = OffsetDateTime::parse(&metrics.timestamp, &Rfc3339).is_ok_and(|at| now - at <= OLDEST);
        if let Some(node) = node(view, &metrics.metadata.name).filter(|_| fresh) {
            let used = |name| metrics.usage.get(name).and_then(|quantity| amount(quantity));
            cpu.add(used("cpu"), node.cpus);
            memory.add(used("memory"), node.memory);
        }
    }
    let mut resources = Resources::new();
    put(&mut resources, Resources::CPU_RATIO, cpu.ratio());
    put(&mut resources, Resources::MEM_RATIO, memory.ratio());
    resources
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::kubernetes::view::{NodeFacts, tests::node};

    /// As metrics-server answers.
    const ANSWER: &str = r#"{"kind":"NodeMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[
        {"metadata":{"name":"sinfonia-control-plane","creationTimestamp":"2025-11-24T19:30:12Z","labels":
        {"kubernetes.io/os":"linux"}},"timestamp":"2025-11-24T19:30:05Z","window":"20.061s",
        "usage":{"cpu":"250934012n","memory":"1048576Ki"}},
        {"metadata":{"name":"sinfonia-worker"},"timestamp":"2025-11-24T19:29:58Z","window":"10.1s",
        "usage":{"cpu":"250m","memory":"512Mi"}},
        {"metadata":{"name":"stranger"},"timestamp":"2025-11-24T19:29:58Z","usage":{"cpu":"9","memory":"9Gi"}}]}"#;

    fn view() -> ClusterView {
        let sized = |name, cpus, memory| NodeFacts { cpus, memory, ..node(name) };
        let nodes = vec![
            sized("sinfonia-control-plane", Some(2.0), Some(2.0 * 1024f64.powi(3))),
            sized("sinfonia-worker", Some(2.0), Some(1024f64.powi(3))),
        ];
        ClusterView { nodes, ..ClusterView::default() }
    }

    #[test]
    fn usage_is_over_what_nodes_have() {
        let resources = ratios(&parse(ANSWER.as_bytes()).unwrap(), &view(), datetime!(2025-11-24 19:30:20 UTC));
        let cpu = resources.get(Resources::CPU_RATIO).unwrap();
        assert!((cpu - 0.500_934_012 / 4.0).abs() < 1e-9, "{cpu}");
        assert_eq!(resources.get(Resources::MEM_RATIO), Some(0.5));
        assert_eq!(resources.iter().count(), 2);
    }

    #[test]
    fn what_is_old_or_unknown_does_not_count() {
        let list = parse(ANSWER.as_bytes()).unwrap();
        assert!(ratios(&list, &view(), datetime!(2025-11-24 19:36 UTC)).is_empty());
        let mut view = view();
        view.nodes[0].memory = None;
        let resources = ratios(&list, &view, datetime!(2025-11-24 19:30:20 UTC));
        assert_eq!(resources.get(Resources::MEM_RATIO), Some(0.5), "that of the worker");
        view.nodes.clear();
        assert!(ratios(&list, &view, datetime!(2025-11-24 19:30:20 UTC)).is_empty());
        assert!(parse(b"{}").is_err() && parse(b"[]").is_err());
    }
}
