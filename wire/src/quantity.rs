//! Amounts of a resource, as Kubernetes writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::quote;

/// An amount such as `500m`, `2` or `256Mi` (Kubernetes API, "Quantity"). In YAML and JSON it may be a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quantity(String);

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given} is not an amount such as 500m, 2 or 256Mi")]
pub struct QuantityError {
    given: String,
}

const SUFFIXES: [&str; 15] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];

impl Quantity {
    /// The amount as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let decimal = number.chars().all(|c| c.is_ascii_digit() || c == '.')
            && number.chars().filter(|&c| c == '.').count() <= 1
            && number.contains(|c: char| c.is_ascii_digit());
        if decimal && number.len() <= 20 && SUFFIXES.contains(&&text[number.len()..]) {
            return Ok(Self(text.to_owned()));
        }
        Err(QuantityError { given: quote(text) })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Whole(u64),
            Decimal(f64),
            Text(String),
        }
        let text = match Given::deserialize(deserializer)? {
            Given::Whole(number) => number.to_string(),
            Given::Decimal(number) => number.to_string(),
            Given::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_those_of_kubernetes() {
        for text in ["0", "2", "0.5", "500m", "256Mi", "1.5G", "3Ti"] {
            assert_eq!(text.parse::<Quantity>().unwrap().as_str(), text);
        }
        for text in ["", "m", ".", "1.2.3", "-1", "1 Gi", "1gi", "1KiB", "1e3x", "٣"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Quantity>("10").unwrap().as_str(), "10");
        assert_eq!(serde_json::from_str::<Quantity>("0.5").unwrap().as_str(), "0.5");
        assert!(serde_json::from_str::<Quantity>("-1").is_err());
    }
}
