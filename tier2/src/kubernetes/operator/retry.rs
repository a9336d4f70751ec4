//! What becomes of work that fails for a reason that may pass: people and clients are told, and it is done again after a
//! pause. An installation is given up after a while and some tries.

use std::time::Duration;

use kube::{
    ResourceExt as _,
    runtime::{controller::Action, events::EventType},
};

use super::{
    Operator, OperatorError,
    backoff::LONGEST_RETRY,
    status::{retrying_for, set_retrying, step_after_failure},
};
use crate::kubernetes::{
    crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
    decide::{Decision, Work},
    failure::Failure,
};

/// How often an installation is tried at least: it may have spent its time waiting for its turn.
const LEAST_TRIES: u32 = 3;

impl Operator {
    /// Says what failed, and when the work is to be done again.
    pub(super) async fn put_off(
        &self,
        object: &CloudletDeployment,
        decision: &Decision,
        error: OperatorError,
    ) -> Result<Action, OperatorError> {
        let (failure, limit) = (Failure::from(error), self.parts.options.ready_limit());
        let known = self.unseen.newest(object);
        let work = if has_failed(&known) { Work::CleanUp } else { decision.work };
        // It ends when its time is over, not at the try after that.
        let most = match work {
            Work::Install { .. } => limit.saturating_sub(retrying_for(&known).unwrap_or_default()),
            _ => LONGEST_RETRY,
        };
        let (tries, pause, is_new) = self.backoff.failed(object, work, &failure.message, most);
        if is_new {
            tracing::warn!(object = object.name_any(), error = %failure, "to be tried again");
            self.tell(object, EventType::Warning, "Retrying", failure.message.clone());
        }
        match outcome(&known, work, &failure, tries, limit) {
            Outcome::Untold => {}
            Outcome::GivenUp(failure) => {
                self.failed(&known, &failure).await?;
                self.backoff.forget(object);
            }
            Outcome::Told(status) => {
                let told = self.write_outcome(&known, |_| status.clone()).await;
                if let Err(error) = told {
                    tracing::debug!(object = object.name_any(), %error, "not told");
                }
            }
        }
        Ok(Action::requeue(pause))
    }
}

/// Whether the object says already that what was asked for last has failed, so that only the rest is to be taken away.
fn has_failed(object: &CloudletDeployment) -> bool {
    object.status.as_ref().is_some_and(|status| {
        status.failure.is_some()
            && status.phase == Some(Phase::Expired)
            && status.observed_request == Some(object.spec.requested_at)
    })
}

enum Outcome {
    /// Nobody waits for it.
    Untold,
    /// This is written into the object.
    Told(CloudletDeploymentStatus),
    /// The installation has failed.
    GivenUp(Failure),
}

/// `tries` is how often this leader has failed in a row, `limit` for how long an installation is tried.
fn outcome(object: &CloudletDeployment, work: Work, failure: &Failure, tries: u32, limit: Duration) -> Outcome {
    let step = match work {
        Work::Nothing => return Outcome::Untold,
        Work::Install { .. } => match retrying_for(object) {
            Some(time) if time >= limit && tries >= LEAST_TRIES => {
                return Outcome::GivenUp(failure.clone().tried_for(time));
            }
            _ => Some("being tried again"),
        },
        Work::Withdraw => Some("idle: being taken away"),
        // The object says why it failed, which is more.
        Work::CleanUp => None,
        Work::Remove => Some("being removed"),
    };
    let mut status = object.status.clone().unwrap_or_default();
    set_retrying(&mut status, object, failure);
    if let Some(step) = step {
        status.message = Some(step_after_failure(step, &status));
    }
    Outcome::Told(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::crd::{Phase, tests::object};

    const INSTALL: Work = Work::Install { afresh: false };
    const LIMIT: Duration = Duration::from_secs(180);

    fn unavailable() -> Failure {
        Failure::new("chart-unavailable", "the chart x cannot be fetched: the server answers 503")
    }

    #[test]
    fn an_installation_is_tried_again_and_says_why_until_it_is_given_up() {
        let mut object = object(7, Some(Phase::Initializing));
        let Outcome::Told(status) = outcome(&object, INSTALL, &unavailable(), LEAST_TRIES, LIMIT) else {
            panic!("given up at once")
        };
        let message = "being tried again; the last try failed: the chart x cannot be fetched: the server answers 503";
        assert_eq!(status.message.as_deref(), Some(message));
        assert_eq!((status.phase, &status.failure), (Some(Phase::Initializing), &None));
        object.status = Some(status);
        let Outcome::Told(status) = outcome(&object, INSTALL, &unavailable(), LEAST_TRIES, LIMIT) else {
            panic!("given up too soon")
        };
        assert_eq!(object.status.as_ref(), Some(&status), "the same failure again is no change");

        let since = &mut object.status.as_mut().unwrap().conditions[0].last_transition_time;
        since.0 -= LIMIT;
        let too_few = outcome(&object, INSTALL, &unavailable(), LEAST_TRIES - 1, LIMIT);
        assert!(matches!(too_few, Outcome::Told(_)), "given up after two tries");
        let Outcome::GivenUp(failure) = outcome(&object, INSTALL, &unavailable(), LEAST_TRIES, LIMIT) else {
            panic!("for ever")
        };
        assert_eq!(failure.code, "chart-unavailable");
        assert!(failure.message.ends_with("answers 503 (tried again for 180 s)"), "{failure}");
    }

    #[test]
    fn what_has_failed_is_not_being_tried_again_until_somebody_asks() {
        let mut failed = object(7, Some(Phase::Expired));
        let (requested, kept) = (failed.spec.requested_at, unavailable().record(failed.spec.requested_at));
        let status = failed.status.as_mut().unwrap();
        (status.failure, status.observed_request) = (Some(kept), Some(requested));
        assert!(has_failed(&failed));
        failed.spec.requested_at += Duration::from_secs(1);
        assert!(!has_failed(&failed));
    }

    #[test]
    fn what_is_taken_away_says_what_keeps_it() {
        let object = object(7, Some(Phase::Expiring));
        let Outcome::Told(status) = outcome(&object, Work::Withdraw, &unavailable(), LEAST_TRIES, Duration::ZERO)
        else {
            panic!("nothing is told")
        };
        assert!(status.message.unwrap().starts_with("idle: being taken away; the last try failed: the chart x"));
        let mut failed = object;
        failed.status.as_mut().unwrap().message = Some("it crashes".to_owned());
        let Outcome::Told(status) = outcome(&failed, Work::CleanUp, &unavailable(), LEAST_TRIES, LIMIT) else {
            panic!("untold")
        };
        assert_eq!(status.message.as_deref(), Some("it crashes"));
        assert!(matches!(outcome(&failed, Work::Nothing, &unavailable(), LEAST_TRIES, LIMIT), Outcome::Untold));
    }
}
