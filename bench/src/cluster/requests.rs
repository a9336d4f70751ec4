//! How many requests the API server got, counted by itself.

use serde_json::json;
use sinfonia_tests::cluster::{Cluster, NAMESPACE};
use sinfonia_tests::eventually;

/// The flow schema that holds tier2's requests alone.
const TIER2: &str = "sinfonia-bench";
/// The one that holds those of the deployments' own accounts, which helm uses, and of the gateway.
const ACCOUNTS: &str = "service-accounts";

/// Counts while it exists.
pub(super) struct Requests<'a>(&'a Cluster);

/// Requests so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) tier2: f64,
    /// Nearly all of them of helm.
    pub(super) others: f64,
}

impl<'a> Requests<'a> {
    /// Gives tier2's account a flow schema of its own, with the priority that it has anyway.
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let account = json!({ "namespace": NAMESPACE, "name": "sinfonia-tier2" });
        let all = json!(["*"]);
        let resources =
            json!({ "apiGroups": all, "resources": all, "verbs": all, "namespaces": all, "clusterScope": true });
        let schema = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": { "name": TIER2 },
            "spec": {
                "matchingPrecedence": 500,
                "priorityLevelConfiguration": { "name": "workload-low" },
                "distinguisherMethod": { "type": "ByUser" },
                "rules": [{
                    "subjects": [{ "kind": "ServiceAccount", "serviceAccount": account }],
                    "resourceRules": [resources],
                    "nonResourceRules": [{ "nonResourceURLs": all, "verbs": all }],
                }],
            },
        });
        cluster.apply(&schema.to_string());
        let requests = Self(cluster);
        eventually("tier2's requests are counted", || requests.counts().tier2 > 0.0);
        requests
    }

    pub(super) fn counts(&self) -> Counts {
        let metrics = self.0.kubectl(&["get", "--raw", "/metrics"]);
        let of = |schema: &str| {
            let label = format!("flow_schema=\"{schema}\"");
            let lines = metrics.lines().filter(|line| {
                line.starts_with("apiserver_flowcontrol_dispatched_requests_total{") && line.contains(&label)
            });
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Counts { tier2: of(TIER2), others: of(ACCOUNTS) }
    }
}

impl Drop for Requests<'_> {
    fn drop(&mut self) {
        self.0.kubectl(&["delete", "flowschema", TIER2]);
    }
}
