//! Readable names for deployments: an adjective and a noun.

use petname::{Generator as _, Petnames};
use rand::Rng;
use sinfonia_wire::DeploymentName;

/// A random name that is not taken. With nearly all names taken a number is appended.
pub(crate) fn unused_name(rng: &mut dyn Rng, taken: impl Fn(&DeploymentName) -> bool) -> DeploymentName {
    let words = Petnames::default();
    for attempt in 0u64.. {
        let mut text = String::new();
        words.generate_into(&mut text, rng, 2, "-");
        if attempt >= 64 {
            text.push_str(&format!("-{attempt}"));
        }
        match text.parse::<DeploymentName>() {
            Ok(name) if !taken(&name) => return name,
            _ => {}
        }
    }
    unreachable!("names with a number never run out")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng as _, rngs::StdRng};
    use std::collections::HashSet;

    #[test]
    fn names_are_an_adjective_and_a_noun_and_never_taken() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut taken = HashSet::new();
        for _ in 0..500 {
            let name = unused_name(&mut rng, |name| taken.contains(name));
            assert_eq!(name.as_str().split('-').count(), 2, "{name}");
            assert!(taken.insert(name));
        }
    }

    #[test]
    fn when_every_plain_name_is_taken_a_number_is_appended() {
        let mut rng = StdRng::seed_from_u64(1);
        let name = unused_name(&mut rng, |name| name.as_str().split('-').count() == 2);
        assert!(name.as_str().ends_with("-64"), "{name}");
    }
}
