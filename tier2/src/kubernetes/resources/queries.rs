//! The cluster's resources from Prometheus, as node_exporter and NVIDIA's exporter (DCGM) measure them.

use futures_util::future::try_join_all;
use sinfonia_wire::Resources;

use super::put;
use crate::kubernetes::{
    fetch::Server,
    prometheus::{self, PrometheusError},
};

/// Over all nodes; each gives one value, or none where nothing is measured.
const QUERIES: [(&str, &str); 5] = [
    (
        Resources::CPU_RATIO,
        r#"1 - sum(rate(node_cpu_seconds_total{mode=~"idle|iowait"}[1m])) / sum(rate(node_cpu_seconds_total[1m]))"#,
    ),
    (Resources::MEM_RATIO, "1 - sum(node_memory_MemAvailable_bytes) / sum(node_memory_MemTotal_bytes)"),
    (Resources::GPU_RATIO, "avg(DCGM_FI_DEV_GPU_UTIL) / 100"),
    (Resources::NET_RX_RATE, r#"sum(rate(node_network_receive_bytes_total{device!="lo"}[5m]))"#),
    (Resources::NET_TX_RATE, r#"sum(rate(node_network_transmit_bytes_total{device!="lo"}[5m]))"#),
];

/// Asks all five at once.
///
/// # Errors
/// When one of them cannot be asked.
pub(super) async fn ask(server: &Server) -> Result<Resources, PrometheusError> {
    let mut asked = vec![];
    for (_, query) in QUERIES {
        asked.push(prometheus::query(server, query));
    }
    let answers = try_join_all(asked).await?;
    let mut resources = Resources::new();
    for ((name, _), series) in QUERIES.into_iter().zip(answers) {
        if let Some(first) = series.first() {
            put(&mut resources, name, first.value);
        }
    }
    Ok(resources)
}
