//! tier2 on the cluster of `make cluster-up`, beside what kubectl and the API server alone do there. The measurements
//! run as root where the cluster's nodes can be reached; `KUBECONFIG` says which cluster.

mod burst;
mod charts;
mod gateway;
mod many;
mod ready;
mod requests;

use std::time::{Duration, Instant};

use sinfonia_tests::Running;
use sinfonia_tests::cluster::{Cluster, deploy_path};

use crate::Bench;

pub(crate) const BENCHES: [Bench; 5] = [
    (&ready::FIGURES, ready::run),
    (&burst::FIGURES, burst::run),
    (&many::FIGURES, many::run),
    (&gateway::FIGURES, gateway::run),
    // Removes the cloudlet that the others use.
    (&charts::FIGURES, charts::run),
];

/// How long one deployment may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(280);

/// A cloudlet on the cluster that leads.
struct Scene {
    tier2: Running,
    /// The application.
    application: String,
    agent: ureq::Agent,
    // Last, so that its directory is removed when its programs have ended.
    cluster: Cluster,
}

impl Scene {
    /// Starts a tier2 for one chart.
    fn new(chart: &str, options: &[&str]) -> Self {
        let cluster = Cluster::new();
        let application = cluster.add_chart(chart, "");
        let tier2 = cluster.tier2(options);
        tier2.wait_for_log(&["leads now"]);
        let agent = ureq::Agent::config_builder();
        // A little more than tier2 takes to say that it took too long.
        let agent = agent.http_status_as_error(false).timeout_global(Some(LIMIT * 2)).build().into();
        Self { tier2, application, agent, cluster }
    }

    fn url(&self, key: u8) -> String {
        format!("http://{}{}", self.tier2.listens(), deploy_path(&self.application, key))
    }

    /// Seconds until a deployment is usable.
    fn deploy(&self, key: u8) -> f64 {
        let request = self.agent.post(self.url(key)).header("Prefer", format!("wait={}", LIMIT.as_secs()));
        let begin = Instant::now();
        let answer = request.send_empty().unwrap().body_mut().read_to_string().unwrap();
        let time = begin.elapsed();
        assert!(answer.contains("\"Deployed\""), "{answer} after {time:.1?}");
        time.as_secs_f64()
    }

    fn release(&self, key: u8) {
        self.agent.delete(self.url(key)).call().unwrap();
    }
}
