//! How many deployments a client asks for.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::text::quote;

/// The `results` of a deploy request: 1 to 3, by default 1. More than 3 is taken as 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Results(u8);

/// Why a number of results was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultsError {
    /// Zero or negative.
    #[error("results must be at least 1 (more than 3 is taken as 3)")]
    BelowOne,
    /// Not a whole number.
    #[error("results {given} is not a whole number from 1 to 3")]
    NotNumber {
        /// The refused text, quoted.
        given: String,
    },
}

impl Results {
    /// The most that is ever answered.
    pub const MAX: Self = Self(3);

    /// The number, 1 to 3.
    #[must_use]
    pub const fn get(&self) -> usize {
        self.0 as usize
    }
}

impl Default for Results {
    fn default() -> Self {
        Self(1)
    }
}

impl FromStr for Results {
    type Err = ResultsError;

    fn from_str(text: &str) -> Result<Self, ResultsError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ResultsError::NotNumber { given: quote(text) });
        }
        match digits.trim_start_matches('0') {
            "" => Err(ResultsError::BelowOne),
            _ if negative => Err(ResultsError::BelowOne),
            "1" => Ok(Self(1)),
            "2" => Ok(Self(2)),
            _ => Ok(Self::MAX),
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Results {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

/// A query string holds text, JSON a number.
struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = Results;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 1 to 3")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Results, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Results, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Results, E> {
        self.visit_str(&number.to_string())
    }
}
