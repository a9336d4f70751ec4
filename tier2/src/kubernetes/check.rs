//! What `sinfonia-tier2 check` finds: whether this cloudlet can do its work, and if not, why.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use kube::{Client, Config as ClientConfig};
use sinfonia_recipes::{ChartSource, Repository};
use sinfonia_wire::DeployEndpoint;

use super::{
    activity::{self, SourceError},
    enforcement::enforcement,
    prometheus::Prometheus,
    readiness::ClusterReadiness,
    resources::ClusterResources,
    trial::{Trial, TrialError},
    view::{ClusterWatch, cluster_id},
};
use crate::config::Config;

mod access;
mod recipes;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// A sentence that says what was seen and, unless it is well, what to do.
    pub sentence: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but not as one may think.
    Warning,
    /// Does not work.
    Problem,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, sentence: impl Into<String>) -> Self {
        Self { what, verdict, sentence: sentence.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        write!(f, "{verdict:<8} {:<14} {}", self.what, self.sentence)
    }
}

/// Fetches a chart, and says why it cannot be used.
pub type ChartCheck = Arc<dyn Fn(ChartSource) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What is checked.
pub struct CheckParts {
    /// What tier2 was told.
    pub settings: Config,
    /// Its own namespace.
    pub namespace: String,
    /// The cluster.
    pub client: Client,
    /// How the cluster is reached.
    pub client_config: ClientConfig,
    /// Where recipes come from.
    pub recipes: Arc<Repository>,
    /// How charts are fetched.
    pub chart: ChartCheck,
    /// The Prometheus that was named, or may be found.
    pub prometheus: Prometheus,
    /// Whether kubelets are believed without a valid certificate.
    pub kubelet_insecure_tls: bool,
    /// tier2's own image, for the pods of the trial of NetworkPolicy; without one it is not tried.
    pub image: Option<String>,
}

/// Looks at everything, in the order in which it has to be put right.
pub async fn check(parts: CheckParts) -> Vec<Finding> {
    let mut findings = configuration(&parts.settings);
    findings.extend(recipes::check(&parts.recipes, &parts.chart).await);
    let watch = ClusterWatch::new(parts.client.clone());
    match cluster_id(&parts.client).await {
        Ok(id) => findings.push(Finding::new("cluster", Verdict::Ok, format!("answers; its cloudlet is {id}"))),
        Err(error) => {
            // Everything below would say the same.
            findings.push(Finding::new("cluster", Verdict::Problem, error.to_string()));
            return findings;
        }
    }
    findings.push(access::check(&parts.client, &parts.namespace).await);
    findings.push(tunnels(&watch).await);
    findings.push(figures_of_clients(&watch, &parts.prometheus).await);
    findings.push(figures_of_nodes(&parts, watch).await);
    let trial = Trial::begin(&parts.client, "sinfonia-check").await;
    findings.extend(in_namespace(trial, &parts.client, parts.image.as_deref()).await);
    findings
}

fn configuration(settings: &Config) -> Vec<Finding> {
    let finding = |verdict, sentence: &str| Finding::new("configuration", verdict, sentence);
    let mut findings = vec![];
    match (&settings.tier2_url, settings.tier1_urls.is_empty()) {
        (_, true) => findings.push(finding(
            Verdict::Warning,
            "no --tier1-url is given: only clients that name this cloudlet themselves find it",
        )),
        (None, false) => findings.push(finding(
            Verdict::Problem,
            "--tier2-url is missing, the URL where tier1 reaches this cloudlet: nothing is reported",
        )),
        (Some(url), false) => {
            if let Err(error) = DeployEndpoint::of_tier(url) {
                findings.push(finding(Verdict::Problem, &format!("--tier2-url: {error}")));
            }
            if settings.host.is_loopback() {
                findings.push(finding(
                    Verdict::Warning,
                    "the API listens on loopback only, unless something forwards to it: give --host",
                ));
            }
            if settings.report.locations.is_empty() && settings.report.local_networks.is_empty() {
                findings.push(finding(
                    Verdict::Warning,
                    "neither --location nor --local-network is given: tier1 places this cloudlet by its address",
                ));
            }
        }
    }
    if findings.is_empty() {
        findings.push(finding(Verdict::Ok, "complete"));
    }
    findings
}

async fn tunnels(watch: &ClusterWatch) -> Finding {
    match ClusterReadiness::new(watch.clone()).check().await {
        Ok(end) => {
            let program = if end.gateway.is_some() { "sinfonia-gateway" } else { "Kilo" };
            let sentence = format!(
                "nodes and resolver are ready; {program} on node {} ends tunnels at {}",
                end.node, end.endpoint
            );
            Finding::new("tunnels", Verdict::Ok, sentence)
        }
        Err(missing) => Finding::new("tunnels", Verdict::Problem, missing.to_string()),
    }
}

async fn figures_of_clients(watch: &ClusterWatch, prometheus: &Prometheus) -> Finding {
    match activity::observe(watch, prometheus).await {
        Ok(seen) => Finding::new("activity", Verdict::Ok, format!("figures of {} clients are known", seen.len())),
        Err(error @ SourceError::Missing(_)) => {
            let sentence = format!("{error}, or there is no client yet; deployments without figures do not expire");
            Finding::new("activity", Verdict::Warning, sentence)
        }
        Err(error) => Finding::new("activity", Verdict::Problem, format!("{error}; deployments would not expire")),
    }
}

async fn figures_of_nodes(parts: &CheckParts, watch: ClusterWatch) -> Finding {
    let (prometheus, config) = (parts.prometheus.clone(), parts.client_config.clone());
    let mut resources =
        ClusterResources::new(watch, prometheus, config, parts.client.clone(), parts.kubelet_insecure_tls);
    match resources.try_sample().await {
        Ok(sample) if sample.is_empty() => {
            Finding::new("resources", Verdict::Warning, "nothing is known of the nodes' load, so none is reported")
        }
        Ok(sample) => {
            let names: Vec<&str> = sample.iter().map(|(name, _)| name).collect();
            Finding::new("resources", Verdict::Ok, format!("{} are known", names.join(", ")))
        }
        Err(error) => Finding::new("resources", Verdict::Warning, format!("not reported: {error}")),
    }
}

/// What can only be tried in a namespace like a deployment's.
async fn in_namespace(trial: Result<Trial, TrialError>, client: &Client, image: Option<&str>) -> Vec<Finding> {
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => return vec![Finding::new("deployments", Verdict::Problem, error.to_string())],
    };
    let mut findings = vec![access::check_in_deployment(client, trial.name()).await];
    findings.push(policies(&trial, image).await);
    trial.end().await;
    findings
}

async fn policies(trial: &Trial, image: Option<&str>) -> Finding {
    let finding = |verdict, sentence: String| Finding::new("NetworkPolicy", verdict, sentence);
    let Some(image) = image else {
        return finding(
            Verdict::Warning,
            "not tried: give --image, tier2's own image, for the pods of the trial".to_owned(),
        );
    };
    match enforcement(trial, image).await {
        Ok(true) => finding(Verdict::Ok, "the network enforces it: deployments are kept apart".to_owned()),
        Ok(false) => finding(
            Verdict::Warning,
            "the network does not enforce it: pods of one deployment reach those of another; clients are kept apart by \
             sinfonia-gateway only"
                .to_owned(),
        ),
        Err(error) => finding(Verdict::Warning, format!("could not be tried: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_is_missing() {
        let base = Config::new("/s".into());
        let first = |settings: &Config| configuration(settings).remove(0);
        assert_eq!(first(&base).verdict, Verdict::Warning);
        let reporting = Config { tier1_urls: vec!["http://tier1".parse().unwrap()], ..base };
        assert_eq!(first(&reporting).verdict, Verdict::Problem);
        let url = Some("http://edge.example.org:5000".parse().unwrap());
        let reachable = Config { tier2_url: url, ..reporting };
        assert!(first(&reachable).sentence.contains("--host"));
        let mut complete = Config { host: [192, 0, 2, 1].into(), ..reachable };
        assert!(first(&complete).sentence.contains("--location"));
        complete.report.locations.push("1,2".parse().unwrap());
        assert_eq!(first(&complete).to_string(), "ok       configuration  complete");
    }
}
