//! `docs/errors.md` lists the codes of all servers' errors, and no others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands before the code where an error is made.
const MAKERS: [&str; 8] = [
    "ApiError::new(",
    "ApiError::bad_request(",
    "ApiError::not_found(",
    "forbidden(",
    "Failure::new(",
    "Self::new(",
    "(StatusCode::",
    "code: ",
];

#[test]
fn the_list_of_errors_is_that_of_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut made = BTreeSet::new();
    for part in ["server/src", "tier1/src", "tier2/src", "gateway/src"] {
        read(&root.join(part), &mut made);
    }
    let list = fs::read_to_string(root.join("docs/errors.md")).unwrap();
    let listed: Vec<_> = list.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let once: BTreeSet<_> = listed.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(listed.len(), once.len(), "docs/errors.md lists a code twice");
    let (missing, gone): (Vec<_>, Vec<_>) = (made.difference(&once).collect(), once.difference(&made).collect());
    assert!(missing.is_empty(), "docs/errors.md has to list {missing:?}");
    assert!(gone.is_empty(), "docs/errors.md lists what no source has: {gone:?}");
}

fn read(path: &Path, made: &mut BTreeSet<String>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| read(&entry.unwrap().path(), made));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).unwrap();
        codes(text.split("#[cfg(test)]").next().unwrap(), made);
    }
}

fn codes(text: &str, made: &mut BTreeSet<String>) {
    for (start, _) in text.match_indices('"') {
        let rest = &text[start + 1..];
        let literal = rest.split('"').next().unwrap();
        let kebab = literal.starts_with(|c: char| c.is_ascii_lowercase())
            && literal.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if kebab && is_code(&text[..start], literal.contains('-')) {
            made.insert(literal.to_owned());
        }
    }
}

/// Whether a text that follows `before` is a code: one of several words where an error is made, or any that stands with
/// a status or that a function `code` returns.
fn is_code(before: &str, has_words: bool) -> bool {
    let statement = before.rsplit([';', '{', '}', '"', '`']).next().unwrap();
    let line = before.rsplit('\n').next().unwrap();
    let in_function = before.rfind("fn code(").is_some_and(|start| {
        let indent = before[..start].rsplit('\n').next().unwrap();
        let indent = &indent[..indent.len() - indent.trim_start().len()];
        !before[start..].contains(&format!("\n{indent}}}\n"))
    });
    let is_made = MAKERS.iter().any(|maker| statement.contains(maker)) || line.contains("let code = ");
    // The last argument of these is a code, of however many words.
    let has_status = statement.contains("(StatusCode::");
    has_words && is_made || has_status || in_function && before.ends_with("=> ")
}
