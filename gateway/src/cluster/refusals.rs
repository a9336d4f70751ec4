//! Telling people which peers are not served: once each, in the log and as a Kubernetes event.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::{ClusterPeer, within};
use crate::plan::{Refusal, Refused};

/// What has been told.
pub struct Refusals {
    recorder: Recorder,
    told: BTreeMap<String, Refused>,
}

impl Refusals {
    /// Nothing yet.
    #[must_use]
    pub fn new(client: &Client, node: &str) -> Self {
        let reporter = Reporter { controller: "sinfonia-gateway".into(), instance: Some(node.into()) };
        Self { recorder: Recorder::new(client.clone(), reporter), told: BTreeMap::new() }
    }

    /// Tells what is new; inside a tokio runtime.
    pub fn tell(&mut self, refused: &BTreeMap<String, Refused>) {
        for (name, refused) in refused.iter().filter(|(name, refused)| self.told.get(*name) != Some(refused)) {
            if refused.refusal == Refusal::NotOurs {
                tracing::info!(peer = name, "the peer is not served: {}", refused.refusal);
                continue;
            }
            tracing::warn!(peer = name, "the peer is not served: {}", refused.refusal);
            tokio::spawn(publish(self.recorder.clone(), name.clone(), refused.clone()));
        }
        self.told.clone_from(refused);
    }
}

async fn publish(recorder: Recorder, name: String, refused: Refused) {
    let resource = ClusterPeer::resource();
    let regarding = ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(name.clone()),
        uid: Some(refused.uid),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Warning,
        reason: "NotServed".into(),
        note: Some(format!("The gateway does not serve this peer: {}.", refused.refusal)),
        action: "Serve".into(),
        secondary: None,
    };
    let written = within(format!("write an event for the peer {name}"), recorder.publish(&event, &regarding)).await;
    if let Err(error) = written {
        tracing::debug!("{error}");
    }
}
