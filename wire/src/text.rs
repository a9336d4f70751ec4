//! Serde through `Display` and `FromStr`, and quoting of refused input.

use std::fmt::Display;
use std::io::Write as _;
use std::str::FromStr;

use serde::Serializer;
use serde::de::{Deserialize, Deserializer, Error as _};

/// Serialises the types with `Display` and deserialises them with `FromStr`, so that serde cannot bypass the check.
macro_rules! serde_as_text {
    ($($name:ty),+ $(,)?) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::text::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::text::deserialize(deserializer)
            }
        }
    )+};
}
pub(crate) use serde_as_text;

/// Short texts in one piece: their parts would cost as much each.
pub(crate) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    let mut buffer = [0; 64];
    let size = buffer.len();
    let mut rest = &mut buffer[..];
    let fits = write!(rest, "{value}").is_ok();
    let length = size - rest.len();
    match str::from_utf8(&buffer[..length]) {
        Ok(text) if fits => serializer.serialize_str(text),
        _ => serializer.collect_str(value),
    }
}

pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// For fields with a default: an explicit `null` counts as absent.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Refused input as an error message repeats it: quoted, escaped and cut, because a stranger may have sent it.
pub(crate) fn quote(text: &str) -> String {
    const LIMIT: usize = 80;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{quote, serialize};

    #[test]
    fn long_texts_are_written_whole() {
        for text in [String::new(), "a\"é".to_owned(), "a".repeat(64), "a".repeat(65), "é".repeat(33)] {
            let mut written = Vec::new();
            serialize(&text, &mut serde_json::Serializer::new(&mut written)).unwrap();
            assert_eq!(written, serde_json::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn quotes_escape_and_cut() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        let long = "é".repeat(81);
        assert_eq!(quote(&long), format!("\"{}\"...", "é".repeat(80)));
        assert_eq!(quote(&long[2..]), format!("\"{}\"", "é".repeat(80)));
    }
}
