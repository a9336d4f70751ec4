//! When each client last used its tunnel.
//!
//! The figures come from the Prometheus that was named, else from our gateway, else from the Prometheus that was found.
//! One look serves all deployments. Whatever goes wrong, the answer is [`Activity::Unknown`], which is never idle.

use std::{collections::HashMap, time::Duration};

use sinfonia_wire::PublicKey;
use time::OffsetDateTime;

use self::memory::Memory;
pub(super) use self::sources::{SourceError, observe};
use super::{prometheus::Prometheus, said::Said, view::ClusterWatch};
use crate::lifecycle::Activity;

mod memory;
mod sources;
#[cfg(test)]
mod tests;

/// Looks at the clients' tunnels and remembers what it saw.
pub struct ActivityWatch {
    watch: ClusterWatch,
    prometheus: Prometheus,
    memory: Memory,
    said: Said,
    /// Whether the last look found no figures of any client.
    empty: bool,
}

/// The activity of all clients at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivitySnapshot(HashMap<PublicKey, Activity>);

impl ActivitySnapshot {
    /// What is known of the client with this key.
    #[must_use]
    pub fn of(&self, key: &PublicKey) -> Activity {
        self.0.get(key).copied().unwrap_or(Activity::Unknown)
    }
}

impl ActivityWatch {
    /// Has not looked yet. Figures older than `lease` tell nothing.
    #[must_use]
    pub fn new(watch: ClusterWatch, prometheus: Prometheus, lease: Duration) -> Self {
        let said = Said::new("the activity of clients is unknown, so no deployment expires for lack of it");
        Self { watch, prometheus, memory: Memory::new(lease), said, empty: false }
    }

    /// The activity of all clients. Failures are logged when they begin and when they end.
    pub async fn look(&mut self, now: OffsetDateTime) -> ActivitySnapshot {
        let observed = sources::observe(&self.watch, &self.prometheus).await;
        self.learn(observed, now)
    }

    fn learn(&mut self, observed: Result<sources::Observations, SourceError>, now: OffsetDateTime) -> ActivitySnapshot {
        // The first client's figures come with the next scrape, so it is no failure yet that there are none.
        let was_empty = std::mem::replace(&mut self.empty, matches!(observed, Err(SourceError::Missing { .. })));
        if was_empty || !self.empty {
            self.said.note(&observed);
        }
        let now = now.unix_timestamp_nanos() as f64 / 1e9;
        observed.map_or_else(|_| ActivitySnapshot::default(), |seen| ActivitySnapshot(self.memory.learn(&seen, now)))
    }
}
