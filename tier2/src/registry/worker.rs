//! Carries out what the lifecycle of one deployment wants done.

use std::{sync::Arc, time::Instant};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    Shared,
    handle::{Deployment, Failure},
};
use crate::{
    driver::InstallError,
    lifecycle::{Action, Event, Lifecycle, State},
    metrics,
};

/// A lifecycle at its beginning, and what it wants done first.
pub(super) type Begin = (Lifecycle, Vec<Action>);

/// How a list of actions ended.
enum Done {
    Event(Event),
    Removed,
}

/// Runs until the deployment is removed or tier2 stops. New actions supersede those under way.
pub(super) async fn run(
    shared: Arc<Shared>,
    deployment: Arc<Deployment>,
    mut work: mpsc::UnboundedReceiver<Vec<Action>>,
    first: Vec<Action>,
    request: Span,
) {
    let mut stop = shared.stop.subscribe();
    let mut job = first_job(Arc::clone(&shared), Arc::clone(&deployment), first, request).boxed();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(actions) = work.recv() => {
                job = perform(Arc::clone(&shared), Arc::clone(&deployment), actions, Span::none()).boxed();
            }
            done = &mut job => match done {
                Done::Removed => return shared.forget(&deployment),
                Done::Event(event) => {
                    job = std::future::pending().boxed();
                    shared.apply(&deployment, event);
                }
            },
        }
    }
    drop(job);
    shared.parts.driver.withdraw(Arc::clone(deployment.plan())).await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the registry, which the worker shares.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A new deployment is remembered before anything is made, so that none is made that a restart would forget.
async fn first_job(shared: Arc<Shared>, deployment: Arc<Deployment>, actions: Vec<Action>, request: Span) -> Done {
    if let Err(error) = shared.save().await {
        deployment.set_failure(error.into());
        return Done::Event(Event::Failed);
    }
    perform(shared, deployment, actions, request).await
}

/// `request` is the span of the request that asked for it, if one did; it ends with the installation.
async fn perform(shared: Arc<Shared>, deployment: Arc<Deployment>, actions: Vec<Action>, mut request: Span) -> Done {
    let mut done = Done::Event(Event::Withdrawn);
    for action in actions {
        let plan = Arc::clone(deployment.plan());
        let driver = &shared.parts.driver;
        done = match action {
            Action::Withdraw => {
                driver.withdraw(plan).await;
                Done::Event(Event::Withdrawn)
            }
            Action::Remove => {
                driver.remove(plan).await;
                Done::Removed
            }
            Action::Install { pause } => {
                tokio::time::sleep(pause).await;
                Done::Event(
                    install_and_watch(&shared, &deployment, std::mem::replace(&mut request, Span::none())).await,
                )
            }
        };
    }
    done
}

/// Installs, says when it is ready, and stays until the backend exits.
async fn install_and_watch(shared: &Shared, deployment: &Deployment, request: Span) -> Event {
    let name = &deployment.plan().name;
    let span = tracing::info_span!(
        parent: &request,
        "install",
        sinfonia.deployment = %name,
        sinfonia.application = %deployment.plan().id.application,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    drop(request);
    let begin = Instant::now();
    deployment.progress().restart();
    let installing: BoxFuture<'_, _> =
        shared.parts.driver.install(Arc::clone(deployment.plan()), deployment.progress().clone());
    match installing.instrument(span.clone()).await {
        Ok(installed) => {
            // The installation is over; the backend may run for days.
            drop(span);
            let time = begin.elapsed();
            metrics::ready(time);
            tracing::info!(deployment = %name, ready_after_ms = time.as_millis(), "deployed");
            shared.apply(deployment, Event::Ready);
            let reason = installed.exited.await;
            exited(shared, deployment, reason)
        }
        Err(error) => {
            span.record("error.type", error.code()).record("otel.status_code", "ERROR");
            failed(deployment, error);
            Event::Failed
        }
    }
}

/// The client's last activity must not be forgotten with its peer, so it is taken over before the restart.
fn exited(shared: &Shared, deployment: &Deployment, reason: String) -> Event {
    tracing::warn!(deployment = %deployment.plan().name, %reason, "the backend ended");
    let activity = shared.parts.driver.activity(&deployment.plan().id.key);
    if shared.apply(deployment, Event::Tick(activity)) == State::Deployed {
        deployment.set_failure(Failure::Unstable(format!("the backend ends again and again, last: {reason}")));
    }
    Event::BackendExited
}

fn failed(deployment: &Deployment, error: InstallError) {
    tracing::warn!(deployment = %deployment.plan().name, %error, "could not be deployed");
    metrics::failed(error.code());
    deployment.set_failure(error.into());
}
