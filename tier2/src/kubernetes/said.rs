//! Failures that last are said once when they begin and once when they are over.

use std::fmt::Display;

/// What was last said about one thing.
#[derive(Debug)]
pub(crate) struct Said {
    /// Whose failures they are and what follows from them, such as "resources are not reported".
    consequence: &'static str,
    failing: bool,
}

/// What a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// It works no longer.
    Began,
    /// It works again.
    Ended,
}

impl Said {
    /// Nothing has failed yet. The log names `consequence` beside each failure.
    pub(crate) const fn new(consequence: &'static str) -> Self {
        Self { consequence, failing: false }
    }

    /// Takes note of a result and logs it if it changes something.
    pub(crate) fn note<T, E: Display>(&mut self, result: &Result<T, E>) -> Change {
        let before = std::mem::replace(&mut self.failing, result.is_err());
        let consequence = self.consequence;
        match (result, before) {
            (Ok(_), false) => Change::None,
            (Ok(_), true) => {
                tracing::info!("no longer: {consequence}");
                Change::Ended
            }
            (Err(error), false) => {
                tracing::warn!("{consequence}: {error}");
                Change::Began
            }
            (Err(error), true) => {
                tracing::debug!("{consequence}: {error}");
                Change::None
            }
        }
    }
}

#[cfg(test)]
impl Said {
    pub(crate) const fn is_failing(&self) -> bool {
        self.failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_said() {
        let mut said = Said::new("nothing is known");
        let changes =
            [Ok(()), Err("down"), Err("nonsense"), Ok(()), Ok(()), Err("down")].map(|result| said.note(&result));
        let expected = [Change::None, Change::Began, Change::None, Change::Ended, Change::None, Change::Began];
        assert_eq!(changes, expected);
    }
}
