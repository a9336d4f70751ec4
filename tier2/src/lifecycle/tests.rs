use super::{Action::*, Activity::*, Event::*, *};
use proptest::prelude::*;

const POLICY: Policy = Policy::with_lease(Duration::from_secs(300));
const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn at(seconds: i64) -> OffsetDateTime {
    START + time::Duration::seconds(seconds)
}

fn install(seconds: u64) -> Action {
    Install { pause: Duration::from_secs(seconds) }
}

/// A deployment begun at 0, led into the state by the shortest way.
fn in_state(state: State) -> Lifecycle {
    let events: &[(Event, i64)] = match state {
        State::Initializing => &[],
        State::Deployed => &[(Ready, 1)],
        State::Expiring(Expiring::Withdrawing) => &[(Ready, 1), (Tick(Never), 300)],
        State::Expiring(Expiring::Withdrawn) => &[(Ready, 1), (Tick(Never), 300), (Withdrawn, 300)],
        State::Expiring(Expiring::Reviving) => &[(Ready, 1), (Tick(Never), 300), (Requested, 300)],
        State::Expired => &[(Deleted, 1)],
    };
    let (mut life, _) = Lifecycle::begin(&POLICY, START);
    for (event, seconds) in events {
        life = life.step(&POLICY, *event, at(*seconds)).0;
    }
    assert_eq!(life.state(), state);
    life
}

const INITIALIZING: State = State::Initializing;
const DEPLOYED: State = State::Deployed;
const WITHDRAWING: State = State::Expiring(Expiring::Withdrawing);
const WITHDRAWN: State = State::Expiring(Expiring::Withdrawn);
const REVIVING: State = State::Expiring(Expiring::Reviving);
const EXPIRED: State = State::Expired;

#[test]
fn begins_by_installing_with_a_full_lease() {
    let (life, actions) = Lifecycle::begin(&POLICY, START);
    assert_eq!((life.state(), life.lease_end()), (INITIALIZING, at(300)));
    assert_eq!(actions, [install(0)]);
}

#[test]
fn every_transition() {
    let gone = vec![Withdraw, Remove];
    let again = vec![Withdraw, install(0)];
    let recent = Tick(Ago(Duration::from_secs(10)));
    // state, event, second, next state, actions, end of lease
    let table: Vec<(State, Event, i64, State, Vec<Action>, i64)> = vec![
        (INITIALIZING, Requested, 20, INITIALIZING, vec![], 320),
        (INITIALIZING, Ready, 20, DEPLOYED, vec![], 300),
        (INITIALIZING, Failed, 20, EXPIRED, gone.clone(), 300),
        (INITIALIZING, BackendExited, 20, INITIALIZING, vec![], 300),
        (INITIALIZING, Deleted, 20, EXPIRED, gone.clone(), 300),
        (INITIALIZING, Withdrawn, 20, INITIALIZING, vec![], 300),
        (INITIALIZING, Tick(Never), 999, INITIALIZING, vec![], 300),
        (DEPLOYED, Requested, 20, DEPLOYED, vec![], 320),
        (DEPLOYED, Ready, 20, DEPLOYED, vec![], 300),
        (DEPLOYED, Failed, 20, DEPLOYED, vec![], 300),
        (DEPLOYED, BackendExited, 20, INITIALIZING, again.clone(), 300),
        (DEPLOYED, Deleted, 20, EXPIRED, gone.clone(), 300),
        (DEPLOYED, Withdrawn, 20, DEPLOYED, vec![], 300),
        (DEPLOYED, Tick(Never), 299, DEPLOYED, vec![], 300),
        (DEPLOYED, Tick(Never), 300, WITHDRAWING, vec![Withdraw], 300),
        (DEPLOYED, Tick(Unknown), 9999, DEPLOYED, vec![], 300),
        (DEPLOYED, recent, 305, DEPLOYED, vec![], 595),
        (DEPLOYED, recent, 5, DEPLOYED, vec![], 300),
        (DEPLOYED, Tick(Ago(Duration::from_secs(299))), 400, DEPLOYED, vec![], 401),
        (DEPLOYED, Tick(Ago(Duration::from_secs(300))), 400, WITHDRAWING, vec![Withdraw], 400),
        (WITHDRAWING, Requested, 310, REVIVING, again.clone(), 610),
        (WITHDRAWING, Withdrawn, 310, WITHDRAWN, vec![], 300),
        (WITHDRAWING, Tick(Never), 310, WITHDRAWING, vec![], 300),
        (WITHDRAWING, BackendExited, 310, WITHDRAWING, vec![], 300),
        (WITHDRAWING, Deleted, 310, EXPIRED, gone.clone(), 300),
        (WITHDRAWN, Requested, 310, REVIVING, again, 610),
        (WITHDRAWN, Tick(Never), 360, EXPIRED, vec![Remove], 300),
        (WITHDRAWN, Tick(Unknown), 360, EXPIRED, vec![Remove], 300),
        (WITHDRAWN, Deleted, 310, EXPIRED, gone.clone(), 300),
        (REVIVING, Ready, 310, DEPLOYED, vec![], 600),
        (REVIVING, Failed, 310, EXPIRED, gone.clone(), 600),
        (REVIVING, Requested, 310, REVIVING, vec![], 610),
        (REVIVING, Withdrawn, 310, REVIVING, vec![], 600),
        (REVIVING, Tick(Never), 9999, REVIVING, vec![], 600),
        (REVIVING, Deleted, 310, EXPIRED, gone, 600),
    ];
    for (from, event, second, to, actions, lease_end) in table {
        let (next, done) = in_state(from).step(&POLICY, event, at(second));
        assert_eq!(next.state(), to, "{from:?} {event:?}");
        assert_eq!(done, actions, "{from:?} {event:?}");
        assert_eq!(next.lease_end(), at(lease_end), "{from:?} {event:?}");
    }
}

#[test]
fn a_lease_given_while_the_clock_was_ahead_is_no_longer_than_others() {
    let (ahead, _) = Lifecycle::resume(at(1_000_000_000));
    let (ready, _) = ahead.step(&POLICY, Ready, at(0));
    let (ticked, _) = ready.step(&POLICY, Tick(Never), at(0));
    assert_eq!(ticked.lease_end(), at(300));
    let (idle, _) = ticked.step(&POLICY, Tick(Never), at(300));
    assert_eq!(idle.state(), WITHDRAWING);
}

#[test]
fn nothing_happens_after_expired() {
    for event in [Requested, Ready, Failed, BackendExited, Deleted, Withdrawn, Tick(Never)] {
        let before = in_state(EXPIRED);
        assert_eq!(before.step(&POLICY, event, at(999)), (before, vec![]));
    }
}

#[test]
fn a_backend_that_keeps_exiting_is_given_up_after_growing_pauses() {
    let mut life = in_state(DEPLOYED);
    let mut pauses = vec![];
    let last = loop {
        let (next, actions) = life.step(&POLICY, BackendExited, at(2));
        match actions.last() {
            Some(Install { pause }) => pauses.push(pause.as_secs()),
            _ => break next,
        }
        life = next.step(&POLICY, Ready, at(2)).0;
    };
    assert_eq!(pauses, [0, 1, 2, 4, 8]);
    assert_eq!(last.state(), EXPIRED);
}

#[test]
fn a_backend_that_ran_long_is_restarted_without_counting_the_past() {
    let mut life = in_state(DEPLOYED);
    for round in 1..20 {
        let (next, actions) = life.step(&POLICY, BackendExited, at(round * 100));
        assert_eq!(actions, [Withdraw, install(0)]);
        life = next.step(&POLICY, Ready, at(round * 100)).0;
    }
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Requested),
        Just(Ready),
        Just(Failed),
        Just(BackendExited),
        Just(Deleted),
        Just(Withdrawn),
        Just(Tick(Unknown)),
        Just(Tick(Never)),
        (0u64..1000).prop_map(|ago| Tick(Ago(Duration::from_secs(ago)))),
    ]
}

proptest! {
    /// Whatever happens, a removal is always preceded by a withdrawal, an install never follows an install without
    /// one, and the lease never gets shorter.
    #[test]
    fn actions_are_balanced(events in proptest::collection::vec((events(), 0i64..400), 0..60)) {
        let (mut life, first) = Lifecycle::begin(&POLICY, START);
        let mut now = START;
        let mut installed = first.contains(&install(0));
        for (event, seconds) in events {
            now += time::Duration::seconds(seconds);
            let (next, actions) = life.step(&POLICY, event, now);
            prop_assert!(next.lease_end() >= life.lease_end());
            for action in actions {
                match action {
                    Withdraw => installed = false,
                    Install { .. } => { prop_assert!(!installed); installed = true; }
                    Remove => prop_assert!(!installed),
                }
            }
            prop_assert_eq!(installed, matches!(next.state(), INITIALIZING | DEPLOYED | REVIVING));
            life = next;
        }
    }
}
