use super::{EvaluationError, Expression, Facts};
use proptest::prelude::*;
use sinfonia_wire::{CloudletId, Location, Resources};
use std::collections::BTreeMap;

fn with_facts<T>(ask: impl FnOnce(&Facts<'_>) -> T) -> T {
    let labels =
        BTreeMap::from([("gpu", "a100"), ("tier", "gold")].map(|(name, text)| (name.to_owned(), text.to_owned())));
    let mut resources = Resources::new();
    resources.insert(Resources::CPU_RATIO, 0.25).unwrap();
    resources.insert("free slots", 3.0).unwrap();
    ask(&Facts {
        id: CloudletId::random(),
        name: "campus",
        labels: &labels,
        resources: &resources,
        age: Some(12.5),
        distance: None,
        address: "::ffff:192.0.2.7".parse().unwrap(),
        location: Some(Location::new(40.44, -79.94).unwrap()),
    })
}

fn holds(text: &str) -> Result<bool, EvaluationError> {
    with_facts(|facts| Expression::parse(text).unwrap().holds(facts))
}

fn score(text: &str) -> Result<f64, EvaluationError> {
    with_facts(|facts| Expression::parse(text).unwrap().score(facts))
}

fn refusal(text: &str) -> String {
    Expression::parse(text).unwrap_err().to_string()
}

#[test]
fn conditions_see_cloudlet_and_client() {
    for text in [
        "cloudlet.resources.cpu_ratio < 0.5",
        "cloudlet.resources['free slots'] >= 3",
        "cloudlet.labels.gpu == 'a100' && cloudlet.labels.tier in ['gold', 'silver']",
        "cloudlet.name.startsWith('cam') && size(cloudlet.name) == 6",
        "cloudlet.age < 15 && client.lat > 40 && client.lon < 0",
        "client.address == '192.0.2.7'",
        "has(cloudlet.labels.gpu) && !has(cloudlet.resources.gpu_ratio)",
        "'gpu' in cloudlet.labels && !('gpu_ratio' in cloudlet.resources)",
        "has(cloudlet.resources.gpu_ratio) ? cloudlet.resources.gpu_ratio < 0.5 : true",
        "double(cloudlet.labels.gpu.startsWith('a') ? '1' : '0') == 1.0",
        "size(cloudlet.uuid) == 36",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
    assert_eq!(holds("cloudlet.resources.cpu_ratio > 0.5"), Ok(false));
}

#[test]
fn what_is_unknown_is_named() {
    let unknown = |name: &str| Err(EvaluationError::Unknown(name.to_owned()));
    assert_eq!(holds("cloudlet.resources.gpu_ratio < 0.5"), unknown("gpu_ratio"));
    assert_eq!(holds("cloudlet.labels.site == 'x'"), unknown("site"));
    assert_eq!(holds("cloudlet.distance < 1000"), unknown("distance"));
    // What is known may decide.
    assert_eq!(holds("cloudlet.resources.gpu_ratio < 0.5 || cloudlet.name == 'campus'"), Ok(true));
    assert_eq!(holds("cloudlet.resources.gpu_ratio < 0.5 && cloudlet.name == 'other'"), Ok(false));
}

#[test]
fn scores_are_numbers() {
    assert_eq!(score("1.0 - cloudlet.resources.cpu_ratio"), Ok(0.75));
    assert_eq!(score("cloudlet.labels.gpu == 'a100'"), Ok(1.0));
    assert_eq!(score("cloudlet.labels.gpu == 'h100' ? 2 : -1"), Ok(-1.0));
    assert_eq!(score("cloudlet.name"), Err(EvaluationError::Kind("number")));
    assert_eq!(score("0.0 / 0.0"), Err(EvaluationError::Kind("number")));
    assert_eq!(holds("cloudlet.resources.cpu_ratio"), Err(EvaluationError::Kind("truth value")));
    for text in ["cloudlet.name < 1", "1 / 0 == 1", "int(cloudlet.name) == 1", "cloudlet.labels == 1 + 1.0"] {
        assert!(matches!(holds(text), Err(EvaluationError::Failed(_))), "{text}: {:?}", holds(text));
    }
}

#[test]
fn loops_are_refused() {
    for text in [
        "cloudlet.labels.all(x, x == 'a')",
        "[1, 2].exists(x, x > 1)",
        "[1, 2].exists_one(x, x > 1)",
        "[1, 2].map(x, x)",
        "[1, 2].filter(x, x > 1) == []",
        "[[1].map(x, [x].map(y, y))] == []",
        "true || [1].map(1, 2, 3, 4, 5)",
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains("comprehension") || refusal.contains("CEL expression"), "{text}: {refusal}");
        assert!(refusal.contains(&text[..4]), "{refusal}");
    }
}

#[test]
fn long_and_deep_ones_are_refused() {
    let long = format!("cloudlet.name == '{}'", "x".repeat(1024));
    assert!(refusal(&long).contains("1043 bytes"), "{}", refusal(&long));
    let nested = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    for text in [
        nested("(", ")", 400),
        nested("[", "]", 400),
        nested("size(", ")", 150),
        nested("true ? 1 : (", ")", 60),
        nested("true ? 1 : ", "", 90),
        nested("[1][", "]", 200),
        nested("1 + (", ")", 150),
        nested("-(", ")", 300),
        format!("1{}", " + 1".repeat(200)),
        format!("cloudlet{}", ".name".repeat(200)),
        format!("1{}", "+1".repeat(511)),
        format!("client{}", ".a".repeat(508)),
        format!("1{}", "[1]".repeat(340)),
    ] {
        assert!(refusal(&text).contains("deep"), "{text}: {}", refusal(&text));
    }
    for text in ["-", "!", "true&&", "true||"].map(|part| format!("{}true", part.repeat(1020 / part.len()))) {
        let _ = Expression::parse(&text);
    }
    assert!(Expression::parse(&nested("(", ")", 10)).is_ok());
    assert!(Expression::parse(&format!("1{} > 0", " + 1".repeat(15))).is_ok());
}

#[test]
fn others_are_refused_with_a_reason() {
    for (text, reason) in [
        ("", "no CEL expression"),
        ("cloudlet.name ==", "column"),
        ("cloudlet.name == 'x", "column"),
        ("name == 'x'", "refers to name"),
        ("cloudlet.resource.cpu_ratio < 1", "cloudlet has uuid, name"),
        ("client.country == 'x'", "client has address"),
        ("cloudlet.name.matches('(a+)+$')", "calls matches"),
        ("timestamp('x') == 1", "calls timestamp"),
        ("{'a': 1}.a == 1", "map or message"),
        ("Message{a: 1} == 1", "map or message"),
    ] {
        assert!(refusal(text).contains(reason), "{text}: {}", refusal(text));
    }
}

proptest! {
    /// Whatever is written there, it is taken or refused, and what is taken has a value or a reason.
    #[test]
    fn nothing_breaks_the_parser(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "cloudlet", "client", ".", "resources", "labels", "name", "[", "]", "(", ")", "{", "}", "?", ":", "!", "-",
                "+", "*", "/", "%", "&&", "||", "==", "<", "in", "1", "0", "2u", "1.5", "9223372036854775807", "'a'", "\"",
                "b'x'", "null", "true", "has", "size", "map", "all", ",", "x", "\n", "//", "é", "\\",
            ]),
            0..40,
        ),
        spaced: bool,
    ) {
        if let Ok(expression) = Expression::parse(&words.join(if spaced { " " } else { "" })) {
            with_facts(|facts| {
                let _ = (expression.holds(facts), expression.score(facts));
            });
        }
    }
}
