use super::{Client, Inquiry, Matcher, Near, Verdict};
use crate::domain::{Cloudlet, Snapshot};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use std::collections::HashMap;

/// Everyone, shuffled.
#[derive(Debug)]
pub(super) struct Random;

impl Matcher for Random {
    fn judge(&self, _: &Cloudlet, _: &Inquiry<'_>) -> Verdict {
        Verdict::Yield
    }

    fn ranked<'a>(&'a self, snapshot: &'a Snapshot, client: &'a Client) -> Box<dyn Iterator<Item = (u32, Near)> + 'a> {
        Box::new(shuffled(snapshot.indices(), client.seed).map(|index| (index, Near::Somewhere)))
    }
}

/// Fisher and Yates' shuffle of `0..count`, one step for each number taken; only what was moved is stored.
fn shuffled(count: u32, seed: u64) -> impl Iterator<Item = u32> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut moved: HashMap<u32, u32> = HashMap::new();
    (0..count).map(move |here| {
        let there = rng.random_range(here..count);
        let at_here = moved.remove(&here).unwrap_or(here);
        if there == here { at_here } else { moved.insert(there, at_here).unwrap_or(there) }
    })
}

#[cfg(test)]
mod tests {
    use super::shuffled;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_shuffle_holds_each_number_once(count in 0u32..300, seed: u64) {
            let mut numbers: Vec<u32> = shuffled(count, seed).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut first = [0u32; 5];
        (0..10_000).for_each(|seed| first[shuffled(5, seed).next().unwrap() as usize] += 1);
        assert!(first.iter().all(|count| (1_800..2_200).contains(count)), "{first:?}");
    }
}
