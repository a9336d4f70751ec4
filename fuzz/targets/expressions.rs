//! Expressions of recipes: whatever is taken has a value or a reason to have none, at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinfonia_recipes::{Facts, Placement};
use sinfonia_wire::{CloudletId, Location, Recipe, Resources};
use std::collections::BTreeMap;

fuzz_target!(|text: &str| {
    let mut recipe: Recipe = serde_json::from_str(r#"{"chart": "a", "version": "0.1.0"}"#).unwrap();
    recipe.requires = Some(text.to_owned());
    let Ok(Placement { requires: Some(expression), .. }) = Placement::of(&recipe, "fuzzed") else { return };
    assert_eq!(expression.text(), text);
    let labels: BTreeMap<String, String> =
        [("gpu", "a100"), ("n", "-9223372036854775808")].map(|(name, text)| (name.into(), text.into())).into();
    let mut resources = Resources::new();
    resources.insert(Resources::CPU_RATIO, 0.25).unwrap();
    for (distance, location) in [(None, None), (Some(1e300), Location::new(40.44, -79.94).ok())] {
        let facts = Facts {
            id: CloudletId::from(uuid::Uuid::nil()),
            name: "campus",
            labels: &labels,
            resources: &resources,
            age: distance,
            distance,
            address: "::ffff:192.0.2.7".parse().unwrap(),
            location,
        };
        let truth = expression.holds(&facts);
        assert_eq!(truth, expression.holds(&facts));
        let score = expression.score(&facts);
        assert!(score.as_ref().is_ok_and(|score| !score.is_nan()) || score.is_err());
        if let Ok(truth) = truth {
            assert_eq!(score, Ok(f64::from(u8::from(truth))));
        }
    }
});
