//! What the containers of a deployment wrote last.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, LogParams},
};
use sinfonia_wire::DeploymentName;

use super::reason::Culprit;
use crate::kubernetes::text;

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The most containers that are asked, and how many at once.
const CONTAINERS: usize = 20;
const AT_ONCE: usize = 4;

/// The most that is read of one container, bytes.
const BYTES: i64 = 16 << 10;

/// Longer lines are cut, characters.
const LINE_LIMIT: usize = 500;

/// How many lines an error's sentence quotes.
const QUOTED_LINES: usize = 3;

/// The last lines of every container in the namespace, as `pod/container: line`; what cannot be had within some seconds
/// is left out.
pub async fn last_log_lines(client: &Client, namespace: &DeploymentName, lines: usize) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    let mut all = Vec::new();
    let collect = async {
        let parameters = ListParams::default().limit(CONTAINERS as u32);
        let Ok(found) = pods.list(&parameters).await else { return };
        let mut asked = vec![];
        for culprit in found.items.iter().flat_map(containers).take(CONTAINERS) {
            asked.push(labelled(&pods, culprit, lines).boxed());
        }
        let mut answers = stream::iter(asked).buffered(AT_ONCE);
        while let Some(lines) = answers.next().await {
            all.extend(lines);
        }
    };
    // What has been read by then is worth showing.
    let _ = tokio::time::timeout(LIMIT, collect).await;
    all
}

async fn labelled(pods: &Api<Pod>, culprit: Culprit, lines: usize) -> Vec<String> {
    let own = read(pods, &culprit, lines, false).await;
    own.into_iter().map(|line| format!("{}/{}: {line}", culprit.pod, culprit.container)).collect()
}

/// The last lines of a container that ended.
pub(super) async fn last_words(client: &Client, namespace: &DeploymentName, culprit: &Culprit) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.as_str());
    let read = async {
        let present = read(&pods, culprit, QUOTED_LINES, false).await;
        // It may just have been started again.
        if present.is_empty() { read(&pods, culprit, QUOTED_LINES, true).await } else { present }
    };
    tokio::time::timeout(LIMIT, read).await.unwrap_or_default()
}

async fn read(pods: &Api<Pod>, culprit: &Culprit, lines: usize, previous: bool) -> Vec<String> {
    let parameters = LogParams {
        container: Some(culprit.container.clone()),
        tail_lines: Some(i64::try_from(lines).unwrap_or(i64::MAX)),
        limit_bytes: Some(BYTES),
        previous,
        ..LogParams::default()
    };
    // A container that has not been started has no log.
    let log = pods.logs(&culprit.pod, &parameters).await.unwrap_or_default();
    log.lines().map(|line| text::line(line, LINE_LIMIT)).filter(|line| !line.is_empty()).collect()
}

fn containers(pod: &Pod) -> Vec<Culprit> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    all.map(|container| Culprit { pod: name.clone(), container: container.name.clone() }).collect()
}
