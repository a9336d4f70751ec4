//! `docs/telemetry.md` says what the code declares, no more and no less. That the programs export it is shown by the
//! end-to-end tests.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sinfonia_tests::Documented;

/// Crates and the programs that they are part of.
const CRATES: [(&str, &[&str]); 10] = [
    ("server", &["tier1", "tier2", "gateway"]),
    ("recipes", &["tier1", "tier2"]),
    ("tier1", &["tier1"]),
    ("tier2", &["tier2"]),
    ("tier3", &["tier3"]),
    ("gateway", &["gateway"]),
    ("tunnel", &["tier2", "tier3", "gateway"]),
    ("telemetry", &["tier1", "tier2", "tier3", "gateway"]),
    ("credentials", &["tier1", "tier2", "tier3"]),
    ("tls", &["tier1", "tier2", "tier3"]),
];

/// Fields of spans that are not attributes, but say what the span is.
const INSTRUCTIONS: [&str; 3] = ["otel.name", "otel.kind", "otel.status_code"];

#[test]
fn metrics_are_documented_as_they_are_declared() {
    let mut declared = BTreeSet::new();
    let mut plain = BTreeSet::new();
    for (file, text, programs) in sources() {
        for (method, kind) in [
            ("u64_counter", "counter"),
            ("f64_counter", "counter"),
            ("i64_up_down_counter", "updowncounter"),
            ("i64_observable_up_down_counter", "updowncounter"),
            ("u64_gauge", "gauge"),
            ("f64_gauge", "gauge"),
            ("u64_observable_gauge", "gauge"),
            ("f64_observable_gauge", "gauge"),
            ("u64_observable_counter", "counter"),
            ("f64_histogram", "histogram"),
            ("u64_histogram", "histogram"),
        ] {
            for (start, _) in text.match_indices(&format!(".{method}(")) {
                let declaration = &text[start..start + text[start..].find(".build()").unwrap()];
                let unit = declaration.split_once(".with_unit(").map_or("", |(_, rest)| literal(rest));
                assert!(!unit.is_empty(), "{}: a metric without a unit: {declaration}", file.display());
                for program in programs {
                    let name = literal(declaration).to_owned();
                    declared.insert((name, kind.to_owned(), unit.to_owned(), (*program).to_owned()));
                }
            }
        }
        plain.extend(text.match_indices("Opts::new(").map(|(start, _)| literal(&text[start..]).to_owned()));
    }
    let documented = Documented::read();
    let listed = documented.metrics.iter().flat_map(|row| {
        let of = row.of.iter().map(|program| program.split(' ').next().unwrap().to_owned());
        of.map(|program| (row.name.clone(), row.kind.clone(), row.unit.clone(), program))
    });
    assert_eq!(declared, listed.collect());
    assert_eq!(plain, documented.plain.iter().map(|row| row.name.clone()).collect());
}

#[test]
fn spans_are_documented_as_they_are_declared() {
    // By name and program: what kinds and attributes there are.
    let mut declared = BTreeMap::<(String, String), (String, BTreeSet<String>)>::new();
    for (file, text, programs) in sources() {
        for declaration in declarations(&text) {
            let span = Span::parse(declaration)
                .unwrap_or_else(|| panic!("{}: a span without a name: {declaration}", file.display()));
            for program in programs {
                let (kind, fields) = declared.entry((span.name.clone(), (*program).to_owned())).or_default();
                kind.clone_from(&span.kind);
                fields.extend(span.fields.iter().cloned());
            }
        }
    }
    let mut documented = BTreeMap::new();
    for row in Documented::read().spans {
        for program in &row.of {
            let program = program.split(' ').next().unwrap().to_owned();
            let before = documented.insert((row.logged.clone(), program), (row.kind.clone(), row.attributes.clone()));
            assert!(before.is_none(), "{} is there twice", row.logged);
        }
    }
    assert_eq!(declared, documented);
}

struct Span {
    name: String,
    kind: String,
    fields: BTreeSet<String>,
}

impl Span {
    /// From the arguments of a macro or an attribute.
    fn parse(arguments: &str) -> Option<Self> {
        let mut span = Self { name: String::new(), kind: "internal".to_owned(), fields: BTreeSet::new() };
        for item in items(arguments) {
            if let Some(fields) = item.strip_prefix("fields(").and_then(|rest| rest.strip_suffix(')')) {
                items(fields).into_iter().for_each(|field| span.field(field));
            } else if let Some(name) = item.strip_prefix("name = ") {
                span.name = literal(name).to_owned();
            } else if item.starts_with('"') && !item.contains('=') {
                span.name = literal(item).to_owned();
            } else if !["target:", "parent:", "skip", "level"].iter().any(|word| item.starts_with(word)) {
                span.field(item);
            }
        }
        (!span.name.is_empty()).then_some(span)
    }

    fn field(&mut self, item: &str) {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        let name = name.trim().trim_start_matches(['%', '?']).trim_matches('"');
        if name == "otel.kind" {
            self.kind = literal(value).to_owned();
        }
        if !INSTRUCTIONS.contains(&name) {
            self.fields.insert(name.to_owned());
        }
    }
}

/// The arguments of everything that makes spans.
fn declarations(text: &str) -> Vec<&str> {
    let begins =
        ["trace_span!(", "debug_span!(", "info_span!(", "warn_span!(", "error_span!(", "[instrument(", "::instrument("];
    let starts = begins.iter().flat_map(|begin| text.match_indices(begin));
    starts.map(|(start, begin)| inside(&text[start + begin.len()..])).collect()
}

/// Up to the parenthesis that closes.
fn inside(text: &str) -> &str {
    let mut depth = 1;
    let end = positions(text).find(|(_, character)| {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &text[..end.unwrap().0]
}

/// What stands between commas that are not inside of anything.
fn items(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in positions(text) {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found.retain(|item| !item.is_empty());
    found
}

/// The characters that are not inside of strings.
fn positions(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quoted = false;
    text.char_indices().filter(move |(_, character)| {
        if *character == '"' {
            quoted = !quoted;
        }
        !quoted
    })
}

/// The first string in a text.
fn literal(text: &str) -> &str {
    text.split('"').nth(1).unwrap_or_else(|| panic!("no name in {text}"))
}

/// All source files, without their tests, and the programs they are part of.
fn sources() -> Vec<(PathBuf, String, &'static [&'static str])> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for (name, programs) in CRATES {
        let mut directories = vec![root.join(name).join("src")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                    found.push((path, code, programs));
                }
            }
        }
    }
    assert!(found.len() > 100, "the sources are not where they are looked for");
    found
}
