//! The life of one deployment: a pure function from state, event and time to the next state and what is to be done.
//!
//! | state | event | next | actions |
//! | --- | --- | --- | --- |
//! | Initializing | ready | Deployed | |
//! | Initializing | failed | Expired | withdraw, remove |
//! | Deployed | idle past the lease | Expiring | withdraw |
//! | Deployed | backend exited | Initializing | withdraw, install after a pause |
//! | Deployed | backend exited too often | Expired | withdraw, remove |
//! | Expiring | requested | Expiring (reviving) | withdraw, install |
//! | Expiring (reviving) | ready | Deployed | |
//! | Expiring (reviving) | failed | Expired | withdraw, remove |
//! | Expiring, withdrawn | next tick | Expired | remove |
//! | any but Expired | deleted, or too old | Expired | withdraw, remove |
//!
//! A request renews the lease in every state but Expired, and so does activity seen at a tick. A list of actions
//! supersedes whatever is under way, so each action is idempotent and can be dropped half way.

use std::time::Duration;

use sinfonia_wire::DeploymentStatus;
use time::OffsetDateTime;

#[cfg(test)]
mod tests;

/// What decides about leases and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a deployment stays after its last request or activity.
    pub lease: Duration,
    /// How often in a row a backend that exits is started again before the deployment is given up.
    pub restarts: u32,
    /// A backend that lived this long starts with a clean record.
    pub stable_after: Duration,
}

impl Policy {
    /// The usual restart limits with this lease.
    #[must_use]
    pub const fn with_lease(lease: Duration) -> Self {
        Self { lease, restarts: 5, stable_after: Duration::from_secs(60) }
    }
}

/// Where a deployment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The backend is being installed.
    Initializing,
    /// The backend is usable.
    Deployed,
    /// Idle past its lease; name and addresses are still held.
    Expiring(Expiring),
    /// Being removed; nothing comes after.
    Expired,
}

/// How far an expiring deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiring {
    /// Peer and backend are being taken away.
    Withdrawing,
    /// Peer and backend are gone; the next tick removes the rest.
    Withdrawn,
    /// A request came: peer and backend are being made again.
    Reviving,
}

/// What happens to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A client asks for it.
    Requested,
    /// The backend answers.
    Ready,
    /// It could not be installed.
    Failed,
    /// The backend of a usable deployment ended by itself.
    BackendExited,
    /// A client gives it back.
    Deleted,
    /// It has reached the greatest age that its recipe allows.
    Aged,
    /// Peer and backend are gone.
    Withdrawn,
    /// The periodic job passes by.
    Tick(Activity),
}

/// What is known about a client's use of its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It cannot be told. This is not idle.
    Unknown,
    /// Nothing was ever received.
    Never,
    /// The last handshake or received packet is this long ago.
    Ago(Duration),
}

/// What is to be done, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make peer and backend, after a pause.
    Install {
        /// How long to wait before.
        pause: Duration,
    },
    /// Take away peer and backend; name and addresses stay.
    Withdraw,
    /// Forget name and addresses.
    Remove,
}

/// A deployment's state and lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    state: State,
    lease_end: OffsetDateTime,
    ready_since: Option<OffsetDateTime>,
    restarts: u32,
}

impl Lifecycle {
    /// A deployment asked for now.
    #[must_use]
    pub fn begin(policy: &Policy, now: OffsetDateTime) -> (Self, Vec<Action>) {
        Self::resume(now + policy.lease)
    }

    /// A deployment known from before a restart, to be made again.
    #[must_use]
    pub fn resume(lease_end: OffsetDateTime) -> (Self, Vec<Action>) {
        let this = Self { state: State::Initializing, lease_end, ready_since: None, restarts: 0 };
        (this, vec![install_now()])
    }

    /// One whose state and lease were kept elsewhere; what its state wants done is not repeated.
    #[must_use]
    pub const fn restored(state: State, lease_end: OffsetDateTime) -> Self {
        Self { state, lease_end, ready_since: None, restarts: 0 }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the lease ends unless it is renewed.
    #[must_use]
    pub const fn lease_end(&self) -> OffsetDateTime {
        self.lease_end
    }

    /// The state as it is told to clients.
    #[must_use]
    pub const fn status(&self) -> DeploymentStatus {
        match self.state {
            State::Initializing => DeploymentStatus::Initializing,
            State::Deployed => DeploymentStatus::Deployed,
            State::Expiring(_) => DeploymentStatus::Expiring,
            State::Expired => DeploymentStatus::Expired,
        }
    }

    /// The next state after `event`, and what is to be done. Events that mean nothing in a state (a late answer of
    /// superseded work) change nothing.
    #[must_use]
    pub fn step(self, policy: &Policy, event: Event, now: OffsetDateTime) -> (Self, Vec<Action>) {
        use State::{Deployed, Expired, Expiring as Leaving, Initializing};
        match (self.state, event) {
            (Expired, _) => (self, vec![]),
            (_, Event::Deleted | Event::Aged) => self.give_up(),
            (Leaving(Expiring::Withdrawing | Expiring::Withdrawn), Event::Requested) => {
                self.renewed(policy, now).to(Leaving(Expiring::Reviving), vec![Action::Withdraw, install_now()])
            }
            (_, Event::Requested) => (self.renewed(policy, now), vec![]),
            (Initializing | Leaving(Expiring::Reviving), Event::Ready) => {
                let ready = Self { ready_since: Some(now), ..self };
                ready.to(Deployed, vec![])
            }
            (Initializing | Leaving(Expiring::Reviving), Event::Failed) => self.give_up(),
            (Deployed, Event::BackendExited) => self.restarted(policy, now),
            (Deployed, Event::Tick(activity)) => self.ticked(policy, activity, now),
            (Leaving(Expiring::Withdrawing), Event::Withdrawn) => self.to(Leaving(Expiring::Withdrawn), vec![]),
            (Leaving(Expiring::Withdrawn), Event::Tick(_)) => self.to(Expired, vec![Action::Remove]),
            _ => (self, vec![]),
        }
    }

    fn to(self, state: State, actions: Vec<Action>) -> (Self, Vec<Action>) {
        (Self { state, ..self }, actions)
    }

    fn give_up(self) -> (Self, Vec<Action>) {
        self.to(State::Expired, vec![Action::Withdraw, Action::Remove])
    }

    fn renewed(self, policy: &Policy, now: OffsetDateTime) -> Self {
        Self { lease_end: self.lease_end.max(now + policy.lease), ..self }
    }

    fn ticked(self, policy: &Policy, activity: Activity, now: OffsetDateTime) -> (Self, Vec<Action>) {
        let this = match activity {
            Activity::Unknown => return (self, vec![]),
            Activity::Never => self,
            Activity::Ago(ago) => self.renewed(policy, now - ago),
        };
        // None was given for longer: the clock was ahead then.
        let this = Self { lease_end: this.lease_end.min(now + policy.lease), ..this };
        if now < this.lease_end {
            return (this, vec![]);
        }
        this.to(State::Expiring(Expiring::Withdrawing), vec![Action::Withdraw])
    }

    fn restarted(self, policy: &Policy, now: OffsetDateTime) -> (Self, Vec<Action>) {
        let stable = self.ready_since.is_some_and(|since| now - since >= policy.stable_after);
        let restarts = if stable { 0 } else { self.restarts };
        if restarts >= policy.restarts {
            return self.give_up();
        }
        let this = Self { restarts: restarts + 1, ready_since: None, ..self };
        let pause = restart_pause(restarts);
        this.to(State::Initializing, vec![Action::Withdraw, Action::Install { pause }])
    }
}

const fn install_now() -> Action {
    Action::Install { pause: Duration::ZERO }
}

/// 0, 1, 2, 4, 8 ... seconds: the first restart is at once, since a backend killed once is seldom broken.
fn restart_pause(earlier: u32) -> Duration {
    match earlier {
        0 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 1).min(6)),
    }
}
