//! Words of others, made fit for a sentence.

/// One line of printable characters, cut at `limit` of them.
pub(super) fn line(words: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|character| !character.is_control()));
    }
    if let Some((end, _)) = line.char_indices().nth(limit) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// What stands between the first `start` and the `end` that follows it.
pub(super) fn between<'a>(words: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = words.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_single_printable_and_bounded() {
        assert_eq!(line(" a\n\tb\u{1b}[31m  c ", 80), "a b[31m c");
        assert_eq!(line("äöü", 2), "äö…");
        assert_eq!(line("", 2), "");
    }

    #[test]
    fn between_finds_the_first() {
        assert_eq!(between(r#"a "b" "c""#, "\"", "\""), Some("b"));
        assert_eq!(between("a b", "\"", "\""), None);
    }
}
