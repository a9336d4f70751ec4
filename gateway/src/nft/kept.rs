//! The table, and what it is known to hold.

use std::time::Instant;

use super::{Access, RulesError, Table};

/// After which part of their lifetime rules are renewed. Not at each look, since others who read or change rules of the
/// node at that moment have to begin again.
const PART: u32 = 4;

/// A table that is kept as it should be.
#[derive(Debug)]
pub struct KeptTable {
    table: Table,
    /// What it holds; none if that is not known.
    access: Option<Access>,
    /// When it was last changed or renewed.
    renewed: Instant,
}

impl KeptTable {
    /// Nothing is known of it yet.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table, access: None, renewed: Instant::now() }
    }

    /// The next [`Self::keep`] writes all of it anew.
    pub fn forget(&mut self) {
        self.access = None;
    }

    /// Brings this access into force and sees to it that it stays so: others may flush all rules of the node. Blocks for
    /// some milliseconds.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn keep(&mut self, wanted: &Access) -> Result<(), RulesError> {
        let now = Instant::now();
        let before = self.access.take();
        if self.change(before, wanted)? {
            self.renewed = now;
        }
        self.access = Some(wanted.clone());
        Ok(())
    }

    /// Whether there was something to do.
    fn change(&self, before: Option<Access>, after: &Access) -> Result<bool, RulesError> {
        let table = &self.table;
        let Some(before) = before else { return table.replace(after).map(|()| true) };
        if !table.exists()? {
            tracing::warn!("somebody has removed the gateway's packet filter rules; they are written anew");
            return table.replace(after).map(|()| true);
        }
        let changed = if before != *after {
            table.update(&before, after)
        } else if self.renewed.elapsed() >= table.lifetime / PART {
            table.renew()
        } else {
            return Ok(false);
        };
        let changed = changed.or_else(|error| {
            tracing::warn!("{error}; they are written anew");
            table.replace(after)
        });
        changed.map(|()| true)
    }
}
