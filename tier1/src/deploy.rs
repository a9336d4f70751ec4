//! A deploy request: who is asked, and what becomes of the answers.

use crate::{
    domain::{
        Client, Cloudlet, Inquiry, Sent, Setbacks,
        gather::{Ask, Pace, gather},
        holders::{Holding, Outcome},
        interleave::interleave,
    },
    outgoing::{Blame, CallError, Errand, Outgoing},
    service::Service,
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{join_all, ready},
    stream::FuturesUnordered,
};
use sinfonia_recipes::Placement;
use sinfonia_wire::{ApplicationId, CloudletDeployment, CloudletId, DeploymentStatus};
use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{Instrument as _, info, warn};

/// Cloudlets asked to release a deployment of which nothing is remembered.
const GUESSES: usize = 16;

/// What candidates said, one for each.
pub(crate) type Failures = Vec<(Arc<Cloudlet>, CallError)>;

/// How many candidates are tried for so many results.
#[must_use]
pub(crate) const fn attempts(results: usize) -> usize {
    2 * results + 4
}

/// A cloudlet to ask.
#[derive(Debug)]
pub(crate) struct Asked {
    /// It.
    pub cloudlet: Arc<Cloudlet>,
    /// Whether the deployment is there already, as far as known.
    pub is_held: bool,
    /// Whether it may be there, whatever comes of asking again.
    may_hold: bool,
    /// That it is sent there, if that is so from the start.
    sent: RefCell<Option<Sent>>,
}

impl Asked {
    fn new(cloudlet: Arc<Cloudlet>, known: &Holding) -> Self {
        let is_held = known.chosen.contains(&cloudlet.id);
        let may_hold = known.all().any(|id| id == cloudlet.id);
        Self { cloudlet, is_held, may_hold, sent: RefCell::default() }
    }

    /// Counts what is sent there, so that others who choose meanwhile know of it.
    fn count(&self) {
        if !self.is_held {
            self.sent.borrow_mut().get_or_insert_with(|| Sent::to(&self.cloudlet));
        }
    }
}

/// The cloudlets to ask, in order: first those that hold the deployment already, as far as they still suit the client.
#[must_use]
pub(crate) fn candidates(
    service: &Service,
    client: &Client,
    errand: &Errand,
    placement: &Placement,
    results: usize,
) -> Vec<Asked> {
    let deployment = (errand.application, errand.key);
    let known = service.holders.get(&deployment);
    let ranked = ranked(service, client, errand, placement, attempts(results), |fresh, suits| {
        let first: Vec<_> = fresh.iter().take(results).map(|cloudlet| cloudlet.id).collect();
        // Without anybody to choose, those that take no new deployments may be left.
        if first.is_empty() {
            service.holders.get(&deployment).chosen
        } else {
            service.holders.claim(deployment, first, suits)
        }
    });
    let asked: Vec<_> = ranked.into_iter().map(|cloudlet| Asked::new(cloudlet, &known)).collect();
    asked.iter().take(results).for_each(Asked::count);
    asked
}

/// The one cloudlet that a client named.
#[must_use]
pub(crate) fn addressed(service: &Service, errand: &Errand, cloudlet: Arc<Cloudlet>) -> Vec<Asked> {
    let asked = Asked::new(cloudlet, &service.holders.get(&(errand.application, errand.key)));
    asked.count();
    vec![asked]
}

/// The same as [`candidates`], without choosing any.
#[must_use]
pub(crate) fn preview(
    service: &Service,
    client: &Client,
    errand: &Errand,
    placement: &Placement,
    results: usize,
) -> Vec<Arc<Cloudlet>> {
    let chosen = service.holders.get(&(errand.application, errand.key)).chosen;
    ranked(service, client, errand, placement, results, |_, _| chosen)
}

fn ranked(
    service: &Service,
    client: &Client,
    errand: &Errand,
    placement: &Placement,
    limit: usize,
    chosen: impl FnOnce(&[Arc<Cloudlet>], &dyn Fn(CloudletId) -> bool) -> Vec<CloudletId>,
) -> Vec<Arc<Cloudlet>> {
    let snapshot = service.registry.snapshot();
    let inquiry = service.inquiry(client, errand.application, placement);
    let renewal = Inquiry { is_renewal: true, ..inquiry };
    let suiting = |id: CloudletId| snapshot.get(id).filter(|cloudlet| service.chain.offers(cloudlet, &renewal));
    let candidates = service.chain.candidates(&snapshot, &inquiry).take(limit);
    let fresh: Vec<_> = candidates.map(|candidate| Arc::clone(candidate.cloudlet)).collect();
    let ids = chosen(&fresh, &|id| suiting(id).is_some());
    let mut first: Vec<_> = ids.iter().filter_map(|id| suiting(*id)).cloned().collect();
    first.extend(fresh.into_iter().filter(|cloudlet| !ids.contains(&cloudlet.id)));
    first.truncate(limit);
    first
}

/// Asks for deployments and returns at most `results` of them.
///
/// # Errors
/// What each candidate said, if none made one.
pub(crate) async fn deploy(
    service: Arc<Service>,
    outgoing: Outgoing,
    errand: Errand,
    asked: Vec<Asked>,
    results: usize,
) -> Result<Vec<CloudletDeployment>, Failures> {
    let limits = outgoing.limits();
    let pace = Pace { wanted: results, patience: limits.patience, deadline: limits.total };
    let gathered = gather(asked.len(), pace, |candidate| {
        let (service, outgoing, errand) = (Arc::clone(&service), outgoing.clone(), errand.clone());
        let asked = &asked[candidate];
        asked.count();
        let (cloudlet, sent) = (Arc::clone(&asked.cloudlet), asked.sent.take());
        let ask = async move {
            let answer = outgoing.deploy(&cloudlet, &errand).await;
            if answer.is_ok() {
                sent.into_iter().for_each(Sent::made);
            }
            take_note(&service.setbacks, cloudlet.id, errand.application, answer.as_ref().err());
            answer
        };
        ask.in_current_span()
    })
    .await;
    let former: Vec<_> = asked.iter().filter(|asked| asked.may_hold).map(|asked| asked.cloudlet.id).collect();
    let candidates: Vec<_> = asked.into_iter().map(|asked| asked.cloudlet).collect();
    // Who asks again is led to those that have begun, unless another has answered: then they are given up, as those who
    // are late.
    let begun = gathered.failures.iter().filter(|(_, error)| error.has_begun());
    let mut begun: Vec<_> = begun.map(|(candidate, _)| *candidate).collect();
    begun.sort_unstable();
    if !gathered.answers.is_empty() {
        for candidate in begun.drain(..) {
            let unwanted = Err(CallError::NotReady(DeploymentStatus::Initializing));
            gathered.late.push(ready((candidate, unwanted)).boxed_local());
        }
    }

    let id = |candidate: &usize| candidates[*candidate].id;
    let is_without = |candidate, error: &CallError| error.is_final() && !former.contains(&id(candidate));
    let (without, unclear): (Vec<_>, Vec<_>) =
        gathered.failures.iter().partition(|(candidate, error)| is_without(candidate, error));
    let outcome = Outcome {
        holding: gathered.answers.iter().map(|(candidate, _)| id(candidate)).chain(begun.iter().map(id)).collect(),
        without: without.iter().map(|(candidate, _)| id(candidate)).collect(),
        doubtful: unclear
            .iter()
            .map(|(candidate, _)| candidate)
            .filter(|candidate| !begun.contains(candidate))
            .map(id)
            .chain(gathered.unanswered.iter().map(id))
            .collect(),
    };
    service.holders.settle((errand.application, errand.key), &outcome);
    for (candidate, error) in &gathered.failures {
        info!(cloudlet = %id(candidate), %error, "the deployment failed there");
    }
    let failed = |(candidate, error): (usize, CallError)| (Arc::clone(&candidates[candidate]), error);
    let answers: Vec<_> = gathered.answers.into_iter().map(|(_, deployments)| deployments).collect();
    if answers.is_empty() {
        let late = gathered.unanswered.iter().map(|candidate| (*candidate, CallError::Timeout(limits.total)));
        let failures = gathered.failures.into_iter().chain(late).map(failed).collect();
        watch_late(service, outgoing, errand, Late { candidates, former, answers: gathered.late });
        return Err(failures);
    }
    watch_late(service, outgoing, errand, Late { candidates, former, answers: gathered.late });
    Ok(interleave(answers, results))
}

/// Of failures, so that others come first for a while.
fn take_note(setbacks: &Setbacks, cloudlet: CloudletId, application: ApplicationId, error: Option<&CallError>) {
    match error.map(CallError::blame) {
        None => setbacks.clear(cloudlet, application),
        Some(Blame::Cloudlet) => setbacks.note(cloudlet, None, Instant::now()),
        Some(Blame::Application) => setbacks.note(cloudlet, Some(application), Instant::now()),
        Some(Blame::Request) => (),
    }
}

/// Those who were too slow.
struct Late {
    candidates: Vec<Arc<Cloudlet>>,
    /// Who may have held the deployment before.
    former: Vec<CloudletId>,
    answers: FuturesUnordered<Ask<Vec<CloudletDeployment>, CallError>>,
}

/// Waits for those who were too slow, and releases what they made, or have begun to make, although nobody will use it.
fn watch_late(service: Arc<Service>, outgoing: Outgoing, errand: Errand, mut late: Late) {
    if late.answers.is_empty() {
        return;
    }
    let watch = async move {
        while let Some((candidate, answer)) = late.answers.next().await {
            let (cloudlet, deployment) = (&late.candidates[candidate], (errand.application, errand.key));
            let was_former = late.former.contains(&cloudlet.id);
            let is_gone = match answer {
                Err(error) if !error.has_begun() => error.is_final() && !was_former,
                Err(_) if was_former => false,
                // By now another request may have led the client there.
                _ if service.holders.get(&deployment).chosen.contains(&cloudlet.id) => false,
                _ => released(&outgoing, cloudlet, &errand).await.is_ok(),
            };
            if is_gone {
                service.holders.settle(deployment, &Outcome::without(cloudlet.id));
            }
        }
    };
    actix_web::rt::spawn(watch.in_current_span());
}

/// Releases a deployment wherever it may be.
///
/// # Errors
/// The cloudlets that surely or probably hold it and did not confirm its end; their leases will end it.
pub(crate) async fn release(
    service: &Service,
    outgoing: &Outgoing,
    client: &Client,
    errand: &Errand,
) -> Result<(), Failures> {
    let deployment = (errand.application, errand.key);
    let snapshot = service.registry.snapshot().clone();
    let remembered: Vec<_> =
        service.holders.get(&deployment).all().filter_map(|id| snapshot.get(id)).cloned().collect();
    let is_guess = remembered.is_empty();
    let asked = if is_guess {
        let anywhere = Placement::default();
        let inquiry = service.inquiry(client, errand.application, &anywhere);
        let candidates = service.chain.candidates(&snapshot, &inquiry).take(GUESSES);
        candidates.map(|candidate| Arc::clone(candidate.cloudlet)).collect()
    } else {
        remembered
    };
    let answers = join_all(asked.iter().map(|cloudlet| released(outgoing, cloudlet, errand))).await;
    let (mut without, mut failures) = (Vec::new(), Vec::new());
    for (cloudlet, answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(()) => without.push(cloudlet.id),
            Err(error) => failures.push((cloudlet, error)),
        }
    }
    service.holders.settle(deployment, &Outcome { without, ..Outcome::default() });
    if is_guess || failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Releases a deployment at the one cloudlet that a client named.
///
/// # Errors
/// As [`released`].
pub(crate) async fn release_at(
    service: &Service,
    outgoing: &Outgoing,
    cloudlet: &Cloudlet,
    errand: &Errand,
) -> Result<(), CallError> {
    released(outgoing, cloudlet, errand).await?;
    let deployment = (errand.application, errand.key);
    // What this replica has not heard of yet may be held by others.
    if service.holders.get(&deployment).all().any(|holder| holder == cloudlet.id) {
        service.holders.settle(deployment, &Outcome::without(cloudlet.id));
    }
    Ok(())
}

/// Releases a deployment at one cloudlet; one that cannot do that ends it by itself.
///
/// # Errors
/// When the cloudlet does not confirm it.
async fn released(outgoing: &Outgoing, cloudlet: &Cloudlet, errand: &Errand) -> Result<(), CallError> {
    match outgoing.release(cloudlet, errand).await {
        Err(error) if error.is_unsupported() => Ok(()),
        Err(CallError::Refused { status, .. }) if status.as_u16() == 404 => Ok(()),
        Err(error) => {
            warn!(cloudlet = %cloudlet.id, %error, "a deployment was not released; its lease will end it");
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// When to try again if nobody can help now: by then every living cloudlet has reported.
pub(crate) const RETRY: Duration = Duration::from_secs(15);
