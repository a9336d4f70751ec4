//! Candidates in another order than they were found in, without looking far ahead.

use super::{Candidate, Inquiry, Near, requirements};
use sinfonia_recipes::Expression;
use std::collections::VecDeque;

/// Candidates among which a recipe's preference chooses.
pub(super) const PREFERENCE: usize = 64;
/// Candidates among which load chooses.
pub(super) const SPREAD: usize = 12;
/// Somewhat farther is about equally near: by this factor, and these metres, which light crosses in 10 us.
const FACTOR: f64 = 1.2;
const METRES: f64 = 2_000.0;
/// Loads that differ by less are taken as equal: the nearer one is chosen.
const STEP: f64 = 0.01;
/// How many others come before one that failed lately.
const SET_BACK: usize = 16;

/// Of each few dozen, those first that the recipe prefers.
pub(super) fn by_score<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    prefer: &'a Expression,
    inquiry: &'a Inquiry<'a>,
) -> impl Iterator<Item = Candidate<'a>> {
    let scored = candidates.map(|candidate| Candidate {
        score: Some(requirements::score(prefer, candidate.cloudlet, inquiry)),
        ..candidate
    });
    in_groups(
        scored,
        PREFERENCE,
        |_, _| true,
        |group| {
            group.sort_by(|a, b| b.score.unwrap_or(f64::NEG_INFINITY).total_cmp(&a.score.unwrap_or(f64::NEG_INFINITY)));
        },
    )
}

/// Of those about equally near, the least busy first.
pub(super) fn by_load<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    inquiry: &'a Inquiry<'a>,
) -> impl Iterator<Item = Candidate<'a>> {
    let weighed =
        candidates.map(|candidate| Candidate { load: Some(candidate.cloudlet.load(inquiry.now)), ..candidate });
    let together =
        |first: &Candidate<'_>, next: &Candidate<'_>| first.score == next.score && first.near.is_about(next.near);
    in_groups(weighed, SPREAD, together, |group| {
        group.sort_by_key(|candidate| candidate.load.map(|load| (load.estimate() / STEP) as i64));
    })
}

/// Those that failed lately after some others.
pub(super) fn with_set_back_later<'a>(
    mut candidates: impl Iterator<Item = Candidate<'a>>,
) -> impl Iterator<Item = Candidate<'a>> {
    // With the number of others that are still to come first.
    let mut waiting: VecDeque<(usize, Candidate<'a>)> = VecDeque::new();
    let mut count = 0;
    std::iter::from_fn(move || {
        loop {
            if waiting.front().is_some_and(|(turn, _)| *turn <= count) || waiting.len() > SET_BACK {
                return waiting.pop_front().map(|(_, candidate)| candidate);
            }
            match candidates.next() {
                Some(candidate) if candidate.is_set_back => waiting.push_back((count + SET_BACK, candidate)),
                Some(candidate) => {
                    count += 1;
                    return Some(candidate);
                }
                None => return waiting.pop_front().map(|(_, candidate)| candidate),
            }
        }
    })
}

impl Near {
    /// Whether another that is farther makes little difference.
    fn is_about(self, other: Self) -> bool {
        match (self, other) {
            (Self::Metres(near), Self::Metres(far)) => far <= near * FACTOR + METRES,
            _ => self == other,
        }
    }
}

/// Takes items together as long as they are like the first one of their group, at most so many, and does something with
/// each group before its first item goes on.
pub(super) fn in_groups<T>(
    items: impl Iterator<Item = T>,
    most: usize,
    together: impl Fn(&T, &T) -> bool,
    with: impl Fn(&mut [T]),
) -> impl Iterator<Item = T> {
    let mut items = items.peekable();
    let mut group = VecDeque::new();
    std::iter::from_fn(move || {
        if group.is_empty() {
            let first = items.next()?;
            group.reserve(most);
            group.push_back(first);
            while group.len() < most
                && let Some(next) = items.next_if(|next| group.front().is_some_and(|first| together(first, next)))
            {
                group.push_back(next);
            }
            with(group.make_contiguous());
        }
        group.pop_front()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn groups_keep_everything(items in prop::collection::vec(0u32..50, 0..60), most in 1usize..8) {
            let grouped: Vec<u32> =
                in_groups(items.iter().copied(), most, |a, b| a / 10 == b / 10, <[u32]>::sort_unstable).collect();
            let mut expected = Vec::new();
            let mut rest = &items[..];
            while let Some(first) = rest.first() {
                let length = rest.iter().take(most).take_while(|next| *next / 10 == first / 10).count();
                let (group, later) = rest.split_at(length);
                let mut group = group.to_vec();
                group.sort_unstable();
                expected.extend(group);
                rest = later;
            }
            prop_assert_eq!(grouped, expected);
        }
    }

    #[test]
    fn nothing_is_taken_before_it_is_asked_for() {
        let taken = std::cell::Cell::new(0);
        let items = (0..1_000).inspect(|_| taken.set(taken.get() + 1));
        let mut grouped = in_groups(items, 5, |_, _| true, |group| group.reverse());
        assert_eq!(taken.get(), 0);
        assert_eq!((grouped.next(), taken.get()), (Some(4), 5));
    }

    #[test]
    fn near_is_what_makes_no_difference() {
        assert!(Near::Metres(0.0).is_about(Near::Metres(2_000.0)));
        assert!(Near::Metres(100_000.0).is_about(Near::Metres(122_000.0)));
        assert!(!Near::Metres(10_000.0).is_about(Near::Metres(14_001.0)));
        assert!(Near::Network(24).is_about(Near::Network(24)) && !Near::Network(24).is_about(Near::Network(16)));
        assert!(Near::Somewhere.is_about(Near::Somewhere));
    }
}
