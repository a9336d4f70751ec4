//! Whether the network enforces NetworkPolicy, found by trying: a pod that another one reaches must no longer be reached
//! once a policy says so.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::Api;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    fetch::reason,
    trial::{Trial, TrialError},
};

/// How long a pod may take to run, its image included.
const POD_LIMIT: Duration = Duration::from_secs(90);

/// How long connections are tried before the policy, and after it, in seconds: it takes a while to be known everywhere.
const TRY: u64 = 20;

/// Pause between two looks at a pod.
const PAUSE: Duration = Duration::from_millis(500);

const PORT: u16 = 8080;

/// It cannot be found out.
#[derive(Debug, Clone, Error)]
pub(crate) enum EnforcementError {
    /// Something cannot be made.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A pod cannot be looked at.
    #[error("pod {pod} cannot be looked at: {reason}")]
    Look { pod: &'static str, reason: String },
    /// A pod does not run.
    #[error("pod {pod}, with image {image}, did not run within {} s{reason}", POD_LIMIT.as_secs())]
    Pod { pod: &'static str, image: String, reason: String },
    /// Even without a policy pods do not reach each other.
    #[error("a pod cannot reach another one even where no NetworkPolicy forbids it")]
    Unconnected,
}

/// Whether the network enforces NetworkPolicy. `image` is tier2's own, whose hidden commands the pods run.
///
/// # Errors
/// When it cannot be found out.
pub(super) async fn enforcement(trial: &Trial, image: &str) -> Result<bool, EnforcementError> {
    let server = Runner { trial, image, name: "server" };
    server.start(&["probe", "listen", "8080"]).await?;
    let address = server.running().await?;
    let to = std::net::SocketAddr::new(address, PORT).to_string();
    let before = Runner { trial, image, name: "before" };
    before.start(&["probe", "connect", &to, &TRY.to_string()]).await?;
    if !before.ended().await? {
        return Err(EnforcementError::Unconnected);
    }
    let policy = json!({
        "metadata": { "name": "closed" },
        "spec": { "podSelector": { "matchLabels": { "name": "server" } }, "policyTypes": ["Ingress"] },
    });
    trial.make::<NetworkPolicy>("a NetworkPolicy", policy).await?;
    let after = Runner { trial, image, name: "after" };
    after.start(&["probe", "blocked", &to, &TRY.to_string()]).await?;
    let blocked = after.ended().await?;
    // If it ended meanwhile, it is no policy that keeps others away.
    Ok(blocked && server.running().await.is_ok())
}

/// One pod.
struct Runner<'a> {
    trial: &'a Trial,
    image: &'a str,
    name: &'static str,
}

impl Runner<'_> {
    async fn start(&self, arguments: &[&str]) -> Result<(), EnforcementError> {
        self.trial.make::<Pod>(&format!("pod {}", self.name), pod(self.name, self.image, arguments)).await?;
        Ok(())
    }

    /// Waits until it runs, and gives its address.
    async fn running(&self) -> Result<IpAddr, EnforcementError> {
        self.until(|pod| {
            let status = pod.status.as_ref()?;
            let address = status.pod_ip.as_ref()?.parse().ok()?;
            (status.phase.as_deref() == Some("Running")).then_some(address)
        })
        .await
    }

    /// Waits for its end, and tells whether it succeeded.
    async fn ended(&self) -> Result<bool, EnforcementError> {
        self.until(|pod| match pod.status.as_ref()?.phase.as_deref()? {
            "Succeeded" => Some(true),
            "Failed" => Some(false),
            _ => None,
        })
        .await
    }

    async fn until<T>(&self, reached: impl Fn(&Pod) -> Option<T>) -> Result<T, EnforcementError> {
        let pods: Api<Pod> = Api::namespaced(self.trial.client().clone(), self.trial.name());
        let look = |reason| EnforcementError::Look { pod: self.name, reason };
        let end = Instant::now() + POD_LIMIT;
        loop {
            let asked = tokio::time::timeout_at(end, pods.get(self.name)).await;
            let pod = asked.map_err(|_| look("the API server is silent".to_owned()))?;
            let pod = pod.map_err(|error| look(reason(&error)))?;
            if let Some(result) = reached(&pod) {
                return Ok(result);
            }
            if Instant::now() + PAUSE >= end {
                let (image, reason) =
                    (self.image.to_owned(), waiting(&pod).map_or_else(String::new, |why| format!(": {why}")));
                return Err(EnforcementError::Pod { pod: self.name, image, reason });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Why a pod does not run yet.
fn waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        waiting.message.clone().or_else(|| waiting.reason.clone())
    });
    let condition =
        || status.conditions.iter().flatten().find(|condition| condition.status == "False")?.message.clone();
    container.or_else(condition)
}

/// A pod that even the strictest Pod Security level allows.
fn pod(name: &str, image: &str, arguments: &[&str]) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "name": name } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "probe",
                "image": image,
                "args": arguments,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
                "resources": {
                    "requests": { "cpu": "10m", "memory": "32Mi" },
                    "limits": { "cpu": "200m", "memory": "128Mi" },
                },
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fetch::tests::{Behaviour, Fake};

    /// A cluster in which the three pods end up in these phases.
    async fn cluster(phases: [&'static str; 3]) -> (Fake, Trial) {
        let fake = Fake::start(move |path| {
            let path = path.split('?').next().unwrap_or_default();
            let phase = ["server", "before", "after"].iter().position(|name| path.ends_with(name));
            let answer = match (path.rsplit('/').next(), phase) {
                (_, Some(index)) => json!({"status": {"phase": phases[index], "podIP": "10.244.1.7"}}),
                (Some("selfsubjectreviews"), _) => json!({"status": {"userInfo": {"username": "admin"}}}),
                (Some("namespaces"), _) => json!({"metadata": {"name": "n"}, "items": []}),
                _ => json!({"metadata": {"name": "made"}}),
            };
            Behaviour::Answers(answer.to_string())
        })
        .await;
        let trial = Trial::begin(&fake.client(), "sinfonia-check").await.unwrap();
        (fake, trial)
    }

    #[tokio::test]
    async fn the_network_enforces_policies_if_the_way_is_closed_by_one() {
        let (_fake, trial) = cluster(["Running", "Succeeded", "Succeeded"]).await;
        assert!(enforcement(&trial, "image").await.unwrap());
        let (_fake, trial) = cluster(["Running", "Succeeded", "Failed"]).await;
        assert!(!enforcement(&trial, "image").await.unwrap());
        let (_fake, trial) = cluster(["Running", "Failed", "Failed"]).await;
        assert!(matches!(enforcement(&trial, "image").await, Err(EnforcementError::Unconnected)));
        trial.end().await;
    }

    #[tokio::test]
    async fn a_pod_that_never_runs_is_not_waited_for_for_ever() {
        let (fake, trial) = cluster(["Pending", "", ""]).await;
        let before = fake.requests();
        let trying = tokio::spawn(async move { enforcement(&trial, "image").await });
        // The pod was made, and looked at.
        fake.asked(before + 2).await;
        tokio::time::pause();
        let error = trying.await.unwrap().unwrap_err();
        assert!(matches!(error, EnforcementError::Pod { .. } | EnforcementError::Look { .. }), "{error}");
    }

    #[test]
    fn the_reason_why_a_pod_waits_is_found() {
        let status = json!({"status": {"phase": "Pending", "containerStatuses": [{
            "name": "probe", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
        }]}});
        assert_eq!(waiting(&serde_json::from_value(status).unwrap()).unwrap(), "no such image");
        let unschedulable = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"},
        ]}});
        assert_eq!(waiting(&serde_json::from_value(unschedulable).unwrap()).unwrap(), "0/2 nodes are available");
        assert_eq!(waiting(&Pod::default()), None);
        assert!(serde_json::from_value::<Pod>(pod("server", "x", &["probe"])).is_ok());
    }
}
