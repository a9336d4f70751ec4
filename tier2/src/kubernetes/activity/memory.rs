//! What the figures of a tunnel say about its use. Plain code without I/O; times are Unix seconds.
//!
//! A client is active when its handshake is newer, or more bytes were received, than at the last look. The time of a
//! handshake itself, told by another machine's clock, counts only at the first look, and only in the client's favour.
//! Time for which there are no figures yet is not held against a client either.

use std::{collections::HashMap, time::Duration};

use sinfonia_wire::PublicKey;

use super::sources::{Observation, Observations};
use crate::lifecycle::Activity;

/// How far another machine's clock may be ahead, seconds.
const CLOCK_SLACK: f64 = 60.0;

/// How long a client must be seen doing nothing before it counts as idle if nothing else is known of it, seconds. A live
/// one sends something every 30 s.
const OBSERVED: f64 = 60.0;

/// How much newer a handshake must be to be another one, seconds. Its time is computed afresh from a monotonic clock at
/// each look, and moves by microseconds; WireGuard lets at least 5 s pass between two (`REKEY_TIMEOUT`).
const ANOTHER: f64 = 1.0;

/// What was seen of each client.
#[derive(Debug)]
pub(super) struct Memory {
    /// Seconds.
    lease: f64,
    clients: HashMap<PublicKey, Client>,
}

#[derive(Debug, Clone, Copy)]
struct Client {
    handshake: f64,
    received: f64,
    /// Of the first figures.
    first: f64,
    /// Of the latest figures.
    latest: f64,
    /// When it was last active, if that is known.
    active: Option<f64>,
}

impl Memory {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease: lease.as_secs_f64(), clients: HashMap::new() }
    }

    /// Learns from the figures of one look, and tells the activity of each client in them.
    pub(super) fn learn(&mut self, seen: &Observations, now: f64) -> HashMap<PublicKey, Activity> {
        let lease = self.lease;
        let mut activity = HashMap::with_capacity(seen.len());
        for (key, figures) in seen {
            let at = figures.at.unwrap_or(now).min(now);
            if now - at > lease {
                continue;
            }
            let client = self.clients.entry(*key).and_modify(|client| client.update(figures, at));
            let client = client.or_insert_with(|| Client::new(figures, at, lease));
            activity.insert(*key, client.activity(lease));
        }
        self.clients.retain(|_, client| now - client.latest <= 2.0 * lease);
        activity
    }
}

impl Client {
    fn new(figures: &Observation, at: f64, lease: f64) -> Self {
        let age = at - figures.handshake;
        let plausible = figures.handshake > 0.0 && (-CLOCK_SLACK..=lease).contains(&age);
        Self {
            handshake: figures.handshake,
            received: figures.received,
            first: at,
            latest: at,
            active: plausible.then_some(figures.handshake.min(at)),
        }
    }

    /// Counters that fell began anew; what they missed shows as a newer handshake.
    fn update(&mut self, figures: &Observation, at: f64) {
        if figures.handshake > self.handshake + ANOTHER || figures.received > self.received {
            self.active = Some(at);
        }
        self.handshake = figures.handshake;
        self.received = figures.received;
        self.latest = self.latest.max(at);
    }

    fn activity(&self, lease: f64) -> Activity {
        let ago = |at: f64| Activity::Ago(Duration::try_from_secs_f64(self.latest - at).unwrap_or_default());
        if let Some(active) = self.active {
            return ago(active);
        }
        if self.handshake <= 0.0 {
            return Activity::Never;
        }
        if self.latest - self.first < OBSERVED.min(lease) {
            return Activity::Unknown;
        }
        ago(if self.handshake <= self.latest { self.handshake } else { self.first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: f64 = 300.0;
    /// Some time in 2025.
    const T: f64 = 1_764_000_000.0;

    fn memory() -> Memory {
        Memory::new(Duration::from_secs_f64(LEASE))
    }

    /// The activity of one client, seen with these figures at a time after `T`.
    fn look(memory: &mut Memory, after: f64, handshake: f64, received: f64) -> Activity {
        look_at(memory, after, Observation { handshake, received, at: None })
    }

    fn look_at(memory: &mut Memory, after: f64, figures: Observation) -> Activity {
        let key = PublicKey::from([1; 32]);
        memory.learn(&[(key, figures)].into(), T + after).get(&key).copied().unwrap_or(Activity::Unknown)
    }

    fn ago(seconds: u64) -> Activity {
        Activity::Ago(Duration::from_secs(seconds))
    }

    #[test]
    fn a_client_that_never_came_stays_so_until_it_comes() {
        let mut memory = memory();
        assert_eq!(look(&mut memory, 0.0, 0.0, 0.0), Activity::Never);
        assert_eq!(look(&mut memory, 400.0, 0.0, 0.0), Activity::Never);
        assert_eq!(look(&mut memory, 460.0, T + 430.0, 0.0), ago(0));
        assert_eq!(look(&mut memory, 520.0, T + 430.0, 0.0), ago(60));
    }

    #[test]
    fn bytes_and_handshakes_are_activity() {
        let mut memory = memory();
        assert_eq!(look(&mut memory, 0.0, T - 20.0, 1000.0), ago(20));
        assert_eq!(look(&mut memory, 60.0, T - 20.0, 1032.0), ago(0), "a keepalive");
        assert_eq!(look(&mut memory, 120.0, T - 20.0, 1032.0), ago(60));
        assert_eq!(look(&mut memory, 180.0, T + 170.0, 1032.0), ago(0));
        assert_eq!(look(&mut memory, 480.0, T + 170.0, 1032.0), ago(300));
    }

    #[test]
    fn a_handshake_whose_time_trembles_is_the_same_one() {
        let mut memory = memory();
        look(&mut memory, 0.0, T - 20.0, 1000.0);
        assert_eq!(look(&mut memory, 60.0, T - 20.0 + 2.4e-7, 1000.0), ago(80));
        assert_eq!(look(&mut memory, 120.0, T - 20.0, 1000.0), ago(140));
        assert_eq!(look(&mut memory, 180.0, T - 20.0 + 0.02, 1000.0), ago(200), "a clock was set");
    }

    #[test]
    fn an_old_handshake_seen_first_is_idle_only_after_a_while() {
        let mut memory = memory();
        assert_eq!(look(&mut memory, 0.0, T - 900.0, 5.0), Activity::Unknown);
        assert_eq!(look(&mut memory, 30.0, T - 900.0, 5.0), Activity::Unknown);
        assert_eq!(look(&mut memory, 60.0, T - 900.0, 5.0), ago(960));
        let mut slow_clock = self::memory();
        assert_eq!(look(&mut slow_clock, 0.0, T - 900.0, 5.0), Activity::Unknown);
        assert_eq!(look(&mut slow_clock, 60.0, T - 900.0, 6.0), ago(0), "alive by a clock that is behind");
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_make_a_client_immortal() {
        let mut memory = memory();
        let handshake = T + 1e6;
        assert_eq!(look(&mut memory, 0.0, handshake, 5.0), Activity::Unknown);
        assert_eq!(look(&mut memory, 310.0, handshake, 5.0), ago(310));
        assert_eq!(look(&mut self::memory(), 0.0, T + 5.0, 5.0), ago(0), "a little ahead is usual");
    }

    #[test]
    fn restarted_counters_are_neither_activity_nor_oblivion() {
        let mut memory = memory();
        look(&mut memory, 0.0, T - 1.0, 1000.0);
        assert_eq!(look(&mut memory, 60.0, T - 1.0, 1001.0), ago(0));
        assert_eq!(look(&mut memory, 120.0, 0.0, 0.0), ago(60));
        assert_eq!(look(&mut memory, 180.0, 0.0, 0.0), ago(120));
        assert_eq!(look(&mut memory, 240.0, T + 239.0, 1.0), ago(0));
    }

    #[test]
    fn time_without_figures_is_not_held_against_a_client() {
        let mut memory = memory();
        let at = |after: f64, received| Observation { handshake: T - 10.0, received, at: Some(T + after) };
        assert_eq!(look_at(&mut memory, 10.0, at(0.0, 1.0)), ago(10));
        assert_eq!(look_at(&mut memory, 60.0, at(50.0, 2.0)), ago(0));
        assert_eq!(look_at(&mut memory, 120.0, at(110.0, 2.0)), ago(60));
        assert_eq!(look_at(&mut memory, 400.0, at(110.0, 2.0)), ago(60), "Prometheus gives the same figures again");
        assert_eq!(look_at(&mut memory, 411.0, at(110.0, 2.0)), Activity::Unknown, "older than the lease");
        assert_eq!(look_at(&mut memory, 480.0, at(479.0, 2.0)), ago(429), "idle all the time, as it turns out");
    }

    #[test]
    fn clients_that_are_gone_are_forgotten() {
        let mut memory = memory();
        look(&mut memory, 0.0, T, 1.0);
        memory.learn(&Observations::new(), T + 2.0 * LEASE);
        assert_eq!(memory.clients.len(), 1);
        memory.learn(&Observations::new(), T + 2.0 * LEASE + 1.0);
        assert!(memory.clients.is_empty());
    }
}
