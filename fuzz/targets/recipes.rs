//! Recipes: what is taken can be told to everybody, and read from there as the same, except for `local`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinfonia_recipes::parse;
use sinfonia_wire::Recipe;

fuzz_target!(|text: &str| {
    let Ok((recipe, _)) = parse(text, "fuzzed") else { return };
    assert!(recipe.local.as_ref().is_none_or(|local| !local.command().is_empty() && local.port() != 0));
    let told = serde_json::to_string(&recipe.public()).unwrap();
    let public: Recipe = serde_json::from_str(&told).unwrap();
    // JSON has no numbers that are none, nor the difference of 1.0 and 1 in exponents: compared as it is told.
    let again = serde_json::to_value(Recipe { restricted: recipe.restricted, ..public }.public()).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(&told).unwrap());
});
