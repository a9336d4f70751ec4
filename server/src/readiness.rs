//! Whether a server may be sent requests, as the sum of named tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ready when no task is left. Clones share the tasks.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, usize>>>);

impl Readiness {
    /// Without tasks, so ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the returned task is dropped; `/readyz` shows its name.
    pub fn block(&self, name: impl Into<String>) -> ReadinessTask {
        let name = name.into();
        *self.tasks().entry(name.clone()).or_default() += 1;
        ReadinessTask { readiness: self.clone(), name }
    }

    /// Names of the tasks that are not finished, in alphabetical order.
    pub fn pending(&self) -> Vec<String> {
        self.tasks().keys().cloned().collect()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a server from being ready. Made by [`Readiness::block`].
#[must_use = "the server is ready as soon as this is dropped"]
#[derive(Debug)]
pub struct ReadinessTask {
    readiness: Readiness,
    name: String,
}

impl Drop for ReadinessTask {
    fn drop(&mut self) {
        let mut tasks = self.readiness.tasks();
        if let Some(count) = tasks.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                tasks.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn ready_when_the_last_task_of_each_name_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.pending().is_empty());
        let (recipes, again) = (readiness.block("recipes"), readiness.block("recipes"));
        let database = readiness.clone().block("database");
        assert_eq!(readiness.pending(), ["database", "recipes"]);
        drop((recipes, database));
        assert_eq!(readiness.pending(), ["recipes"]);
        drop(again);
        assert!(readiness.pending().is_empty());
    }
}
