//! Writes what is to be remembered: one write at a time, which answers all who asked before it began.

use std::sync::Weak;

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::state::StateError;

type Reply = oneshot::Sender<Result<(), StateError>>;

pub(super) struct Saver(mpsc::UnboundedSender<Option<Reply>>);

impl Saver {
    /// Ends when the registry does.
    pub(super) fn spawn(registry: Weak<Shared>) -> Self {
        let (requests, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(registry, queue));
        Self(requests)
    }

    /// Asks for a write soon; a failure is logged.
    pub(super) fn request(&self) {
        // The task ends after the registry only.
        let _ = self.0.send(None);
    }

    /// Writes the present state, or a later one, and says whether that worked.
    pub(super) async fn save(&self) -> Result<(), StateError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Some(reply));
        answer.await.unwrap_or(Err(StateError::Stopped))
    }
}

async fn run(registry: Weak<Shared>, mut queue: mpsc::UnboundedReceiver<Option<Reply>>) {
    let mut last = Ok(());
    let mut written = None;
    while let Some(request) = queue.recv().await {
        let mut replies = vec![request];
        while let Ok(more) = queue.try_recv() {
            replies.push(more);
        }
        let Some(shared) = registry.upgrade() else { return };
        let records = shared.records();
        let asked = replies.iter().any(Option::is_some);
        if asked || written.as_ref() != Some(&records) {
            let result = shared.parts.store.save(records.clone()).await;
            written = result.is_ok().then_some(records);
            log_change(&last, &result);
            last = result;
        }
        for reply in replies.into_iter().flatten() {
            let _ = reply.send(last.clone());
        }
    }
}

fn log_change(before: &Result<(), StateError>, now: &Result<(), StateError>) {
    match (before, now) {
        (Ok(()), Err(error)) => tracing::error!(%error, "deployments cannot be remembered across a restart"),
        (Err(_), Ok(())) => tracing::info!("deployments are remembered again"),
        _ => {}
    }
}
