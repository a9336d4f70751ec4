//! Reads the text in which programs expose metrics to Prometheus.

use thiserror::Error;

/// One value of one metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample<'a> {
    /// The metric.
    pub(crate) name: &'a str,
    /// The label that was asked for, if it has it.
    pub(crate) label: Option<String>,
    /// The value, which may be no number.
    pub(crate) value: f64,
}

/// A text that is not in this format.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("line {line} is not in the text format of Prometheus")]
pub(crate) struct Malformed {
    line: usize,
}

/// The samples of the named metrics, each with the value of `label`.
///
/// # Errors
/// When a line, of whichever metric, cannot be one of this format.
pub(crate) fn samples<'a>(text: &'a str, names: &[&str], label: &str) -> Result<Vec<Sample<'a>>, Malformed> {
    let mut samples = vec![];
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let malformed = || Malformed { line: index + 1 };
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if name.is_empty() || !rest.starts_with(['{', ' ', '\t']) {
            return Err(malformed());
        }
        if names.contains(&name) {
            let (label, value) = label_and_value(rest, label).ok_or_else(malformed)?;
            samples.push(Sample { name, label, value });
        }
    }
    Ok(samples)
}

/// What follows a metric's name: perhaps labels, then a value, then perhaps a time stamp.
fn label_and_value(rest: &str, wanted: &str) -> Option<(Option<String>, f64)> {
    let mut found = None;
    let mut rest = rest.trim_start();
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels.trim_start();
        while !rest.starts_with('}') {
            let (name, quoted) = rest.split_once('=')?;
            let (value, after) = unquote(quoted.trim_start().strip_prefix('"')?)?;
            if name.trim() == wanted {
                found = Some(value);
            }
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.starts_with('}') => after,
                None => return None,
            };
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((found, value))
}

/// Reads up to the closing quote and gives what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP wireguard_sent_bytes_total Bytes sent to the peer
# TYPE wireguard_sent_bytes_total counter
wireguard_sent_bytes_total{interface=\"wg0\",public_key=\"A=\"} 7
wireguard_last_handshake_seconds{public_key=\"A=\", allowed_ips = \"10.5.0.2/32,\\\"x}\"} 1.764e9 1764000000000
wireguard_last_handshake_seconds 3

wireguard_last_handshake_seconds{public_key=\"B\\\\\\n\",} NaN
process_open_fds 9
";

    #[test]
    fn wanted_metrics_are_found_with_their_label() {
        let found = samples(TEXT, &["wireguard_last_handshake_seconds"], "public_key").unwrap();
        let labels: Vec<_> = found.iter().map(|sample| sample.label.as_deref()).collect();
        assert_eq!(labels, [Some("A="), None, Some("B\\\n")]);
        assert_eq!((found[0].value, found[1].value), (1.764e9, 3.0));
        assert!(found[2].value.is_nan());
        assert_eq!(samples("", &["x"], "y"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_metric_is_refused() {
        for text in [
            "<html>",
            "{\"a\":1}",
            "x",
            "x{",
            "x{a}",
            "x{a=\"b} 1",
            "x{a=\"b\" c=\"d\"} 1",
            "x{a=\"b\"}",
            "x one",
            "x{a=\"\\",
        ] {
            assert_eq!(samples(&format!("\n{text}\n"), &["x"], "a"), Err(Malformed { line: 2 }), "{text}");
        }
    }
}
