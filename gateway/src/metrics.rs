//! What Kilo and its exporters call the traffic of peers: plain Prometheus names, one series for each peer however
//! many there are.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts};
use sinfonia_telemetry::meter;
use sinfonia_telemetry::opentelemetry::KeyValue;
use sinfonia_telemetry::opentelemetry::metrics::ObservableGauge;
use tokio::sync::watch;

use crate::backend::Backend;
use crate::plan::Plan;

const LABEL: &str = "public_key";

/// Reads the backend's counters whenever metrics are asked for.
pub(crate) struct TrafficCollector {
    backend: Arc<dyn Backend>,
    descriptions: Vec<Desc>,
}

/// Shows how many peers are served and refused.
pub(crate) fn census(applied: watch::Receiver<Arc<Plan>>) -> ObservableGauge<u64> {
    meter()
        .u64_observable_gauge("sinfonia.gateway.peers")
        .with_unit("{peer}")
        .with_description("Peers in the cluster by what the gateway makes of them.")
        .with_callback(move |gauge| {
            let plan = applied.borrow().clone();
            for (state, count) in [("served", plan.peers.len()), ("refused", plan.refused.len())] {
                gauge.observe(count as u64, &[KeyValue::new("state", state)]);
            }
        })
        .build()
}

struct Families {
    handshake: GaugeVec,
    received: IntCounterVec,
    sent: IntCounterVec,
}

impl TrafficCollector {
    /// A collector for this backend.
    ///
    /// # Errors
    /// Never: the names are valid.
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Result<Self, prometheus::Error> {
        let Families { handshake, received, sent } = Families::new()?;
        let descriptions = [handshake.desc(), received.desc(), sent.desc()].concat().into_iter().cloned().collect();
        Ok(Self { backend, descriptions })
    }

    fn families(&self) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let Families { handshake, received, sent } = Families::new()?;
        // Unknown is not idle: without an answer there are no series.
        let traffic = self.backend.traffic().unwrap_or_default();
        for (key, traffic) in traffic {
            let key = key.to_string();
            let since = traffic.last_handshake.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            if let Some(since) = since {
                handshake.with_label_values(&[&key]).set(since.as_secs_f64());
            }
            received.with_label_values(&[&key]).inc_by(traffic.received_bytes);
            sent.with_label_values(&[&key]).inc_by(traffic.sent_bytes);
        }
        Ok([handshake.collect(), received.collect(), sent.collect()].concat())
    }
}

impl Families {
    fn new() -> Result<Self, prometheus::Error> {
        let received = Opts::new("wireguard_received_bytes_total", "Bytes received from the peer.");
        let sent = Opts::new("wireguard_sent_bytes_total", "Bytes sent to the peer.");
        let handshake =
            Opts::new("wireguard_last_handshake_seconds", "When the peer's newest session began, Unix time.");
        Ok(Self {
            handshake: GaugeVec::new(handshake, &[LABEL])?,
            received: IntCounterVec::new(received, &[LABEL])?,
            sent: IntCounterVec::new(sent, &[LABEL])?,
        })
    }
}

impl Collector for TrafficCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use prometheus::{Registry, TextEncoder};
    use sinfonia_wire::PublicKey;

    use super::*;
    use crate::backend::{BackendError, Peers, Traffic};

    struct Fixed;

    impl Backend for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn outlives_gateway(&self) -> bool {
            false
        }

        fn retain(&self, _: &Peers) -> Result<(), BackendError> {
            Ok(())
        }

        fn apply(&self, _: &Peers) -> Result<(), BackendError> {
            Ok(())
        }

        fn traffic(&self) -> Result<BTreeMap<PublicKey, Traffic>, BackendError> {
            let last_handshake = UNIX_EPOCH.checked_add(Duration::from_millis(1_700_000_000_500));
            let used = Traffic { last_handshake, received_bytes: 7, sent_bytes: 8, endpoint: None };
            Ok([([1; 32].into(), used), ([2; 32].into(), Traffic::default())].into())
        }
    }

    #[test]
    fn names_and_labels_are_those_that_others_rely_on() {
        let registry = Registry::new();
        registry.register(Box::new(TrafficCollector::new(Arc::new(Fixed)).unwrap())).unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let label = |byte: u8| format!("{{public_key=\"{}\"}}", PublicKey::from([byte; 32]));
        let (one, two) = (label(1), label(2));
        assert_eq!(
            lines,
            [
                format!("wireguard_last_handshake_seconds{one} 1700000000.5"),
                format!("wireguard_received_bytes_total{one} 7"),
                format!("wireguard_received_bytes_total{two} 0"),
                format!("wireguard_sent_bytes_total{one} 8"),
                format!("wireguard_sent_bytes_total{two} 0"),
            ],
            "a peer without a handshake has no time of one"
        );
    }
}
