//! What is to be done with a deployment, decided from its object alone. The [`lifecycle`](crate::lifecycle) says how
//! it goes on; here it meets what the cluster shows.

use std::time::Duration;

use time::OffsetDateTime;

use super::crd::{CloudletDeployment, CloudletDeploymentStatus, Phase};
use crate::lifecycle::{Activity, Event, Expiring, Lifecycle, Policy, State};

/// How long the object of a failed deployment stays, so that people and late requests learn why.
pub(super) const FAILURE_KEPT: Duration = Duration::from_secs(60);

/// A deployment and what is known around it.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) object: &'a CloudletDeployment,
    /// What is known of the client's use of its tunnel.
    pub(super) activity: Activity,
    /// Whether its namespace and its peer are there.
    pub(super) intact: bool,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) phase: Phase,
    /// When the lease ends.
    pub(super) lease_end: OffsetDateTime,
    pub(super) work: Work,
}

/// What the operator does for a phase. Each is idempotent: it is done again after a restart in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Nothing,
    /// Make peer, namespace and release; `afresh` forgets an earlier life.
    Install {
        afresh: bool,
    },
    /// Take away peer and release.
    Withdraw,
    /// Take away what is left around an object that stays.
    CleanUp,
    /// Take away everything, the object too.
    Remove,
}

/// Decides. `interval` is how often idle deployments are looked for.
pub(super) fn decide(observed: &Observed<'_>, policy: &Policy, interval: Duration, now: OffsetDateTime) -> Decision {
    let object = observed.object;
    let requested = object.spec.requested_at;
    let status = object.status.as_ref();
    let lease_end = requested.max(status.and_then(|status| status.last_activity).unwrap_or(requested)) + policy.lease;
    let Some((status, phase)) = status.and_then(|status| Some((status, status.phase?))) else {
        return Decision { phase: Phase::Initializing, lease_end, work: Work::Install { afresh: true } };
    };
    if phase == Phase::Expired {
        return expired(status, requested, lease_end, now);
    }
    let mut life = Lifecycle::restored(state(phase), lease_end);
    let mut happens = |event| life = life.step(policy, event, now).0;
    // A lease counts from its request as it is. Nobody notes that a renewal was seen, so it would be one at every look.
    if phase != Phase::Deployed && status.observed_request.is_some_and(|answered| requested > answered) {
        happens(Event::Requested);
    }
    if status.ends_at.is_some_and(|end| now >= end) {
        happens(Event::Aged);
    }
    if phase == Phase::Deployed && !observed.intact {
        happens(Event::BackendExited);
    }
    // What was withdrawn stays until the look after the one that found it idle.
    if phase != Phase::Withdrawn || now >= lease_end + interval {
        happens(Event::Tick(observed.activity));
    }
    let phase = phase_of(life.state());
    // A renewal does not count from now but from the request.
    let lease_end = if life.state() == State::Deployed { life.lease_end() } else { lease_end };
    Decision { phase, lease_end, work: work(phase) }
}

fn expired(
    status: &CloudletDeploymentStatus,
    requested: OffsetDateTime,
    lease_end: OffsetDateTime,
    now: OffsetDateTime,
) -> Decision {
    let again = status.observed_request.is_some_and(|answered| requested > answered);
    let (phase, work) = match &status.failure {
        _ if again => (Phase::Initializing, Work::Install { afresh: true }),
        Some(failure) if now < failure.at + FAILURE_KEPT => (Phase::Expired, Work::CleanUp),
        _ => (Phase::Expired, Work::Remove),
    };
    Decision { phase, lease_end, work }
}

/// The lifecycle's state of a phase.
const fn state(phase: Phase) -> State {
    match phase {
        Phase::Initializing => State::Initializing,
        Phase::Deployed => State::Deployed,
        Phase::Expiring => State::Expiring(Expiring::Withdrawing),
        Phase::Withdrawn => State::Expiring(Expiring::Withdrawn),
        Phase::Reviving => State::Expiring(Expiring::Reviving),
        Phase::Expired => State::Expired,
    }
}

const fn phase_of(state: State) -> Phase {
    match state {
        State::Initializing => Phase::Initializing,
        State::Deployed => Phase::Deployed,
        State::Expiring(Expiring::Withdrawing) => Phase::Expiring,
        State::Expiring(Expiring::Withdrawn) => Phase::Withdrawn,
        State::Expiring(Expiring::Reviving) => Phase::Reviving,
        State::Expired => Phase::Expired,
    }
}

const fn work(phase: Phase) -> Work {
    match phase {
        Phase::Initializing | Phase::Reviving => Work::Install { afresh: false },
        Phase::Expiring => Work::Withdraw,
        Phase::Expired => Work::Remove,
        Phase::Deployed | Phase::Withdrawn => Work::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::crd::{self, DeploymentFailure};

    const LEASE: u64 = 300;
    const INTERVAL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Requested at 1000.
    fn object(phase: Option<Phase>) -> CloudletDeployment {
        let mut object = crd::tests::object(7, None);
        object.spec.requested_at = at(1000);
        object.status = phase.map(|phase| CloudletDeploymentStatus {
            phase: Some(phase),
            created_at: Some(at(1000)),
            observed_request: Some(at(1000)),
            ..CloudletDeploymentStatus::default()
        });
        object
    }

    fn decided(object: &CloudletDeployment, activity: Activity, now: u64) -> (Phase, Work) {
        let observed = Observed { object, activity, intact: true };
        let decision = decide(&observed, &Policy::with_lease(Duration::from_secs(LEASE)), INTERVAL, at(now));
        (decision.phase, decision.work)
    }

    #[test]
    fn a_new_object_is_installed_and_an_interrupted_one_again() {
        for phase in [None, Some(Phase::Initializing)] {
            let (next, work) = decided(&object(phase), Activity::Unknown, 1001);
            assert_eq!(next, Phase::Initializing);
            assert!(matches!(work, Work::Install { afresh } if afresh == phase.is_none()));
        }
    }

    #[test]
    fn a_lease_ends_by_idleness_only() {
        let deployed = object(Some(Phase::Deployed));
        assert_eq!(decided(&deployed, Activity::Never, 1299), (Phase::Deployed, Work::Nothing));
        assert_eq!(decided(&deployed, Activity::Never, 1300), (Phase::Expiring, Work::Withdraw));
        assert_eq!(decided(&deployed, Activity::Unknown, 9999), (Phase::Deployed, Work::Nothing));
        let used = Activity::Ago(Duration::from_secs(20));
        assert_eq!(decided(&deployed, used, 9999), (Phase::Deployed, Work::Nothing));
    }

    #[test]
    fn a_renewal_counts_once_and_from_its_request() {
        let mut deployed = object(Some(Phase::Deployed));
        deployed.spec.requested_at = at(1200);
        assert_eq!(decided(&deployed, Activity::Never, 1499), (Phase::Deployed, Work::Nothing));
        assert_eq!(decided(&deployed, Activity::Never, 1500), (Phase::Expiring, Work::Withdraw));
    }

    #[test]
    fn activity_that_was_written_down_counts() {
        let mut deployed = object(Some(Phase::Deployed));
        deployed.status.as_mut().unwrap().last_activity = Some(at(2000));
        assert_eq!(decided(&deployed, Activity::Never, 2299).0, Phase::Deployed);
        assert_eq!(decided(&deployed, Activity::Never, 2300).0, Phase::Expiring);
    }

    #[test]
    fn expiring_goes_on_by_itself_or_is_revived() {
        let mut expiring = object(Some(Phase::Expiring));
        assert_eq!(decided(&expiring, Activity::Never, 1301), (Phase::Expiring, Work::Withdraw));
        expiring.spec.requested_at = at(1302);
        assert_eq!(decided(&expiring, Activity::Never, 1302), (Phase::Reviving, Work::Install { afresh: false }));
        let withdrawn = object(Some(Phase::Withdrawn));
        assert_eq!(decided(&withdrawn, Activity::Never, 1359), (Phase::Withdrawn, Work::Nothing));
        assert_eq!(decided(&withdrawn, Activity::Never, 1360), (Phase::Expired, Work::Remove));
        assert_eq!(decided(&withdrawn, Activity::Unknown, 1360), (Phase::Expired, Work::Remove));
    }

    #[test]
    fn what_somebody_removed_is_made_again() {
        let deployed = object(Some(Phase::Deployed));
        let observed = Observed { object: &deployed, activity: Activity::Unknown, intact: false };
        let decision = decide(&observed, &Policy::with_lease(Duration::from_secs(LEASE)), INTERVAL, at(1100));
        assert_eq!((decision.phase, decision.work), (Phase::Initializing, Work::Install { afresh: false }));
    }

    #[test]
    fn age_ends_what_is_in_use() {
        let mut deployed = object(Some(Phase::Deployed));
        deployed.status.as_mut().unwrap().ends_at = Some(at(4600));
        let aged = |now| decided(&deployed, Activity::Ago(Duration::ZERO), now).0;
        assert_eq!(aged(4599), Phase::Deployed);
        assert_eq!(aged(4600), Phase::Expired);
    }

    #[test]
    fn a_failure_stays_for_a_while_and_a_new_request_tries_again() {
        let mut failed = object(Some(Phase::Expired));
        failed.status.as_mut().unwrap().failure = Some(DeploymentFailure {
            code: "chart-invalid".to_owned(),
            message: "no".to_owned(),
            output: vec![],
            at: at(1005),
        });
        assert_eq!(decided(&failed, Activity::Unknown, 1064), (Phase::Expired, Work::CleanUp));
        assert_eq!(decided(&failed, Activity::Unknown, 1065), (Phase::Expired, Work::Remove));
        failed.spec.requested_at = at(1010);
        assert_eq!(decided(&failed, Activity::Unknown, 1011), (Phase::Initializing, Work::Install { afresh: true }));
    }
}
