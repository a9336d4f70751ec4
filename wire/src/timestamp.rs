//! Instants as the existing tiers write them: RFC 3339 in UTC with `T` and a numeric offset.
//!
//! Use on fields as `#[serde(with = "timestamp")]`, on optional ones as `#[serde(with = "timestamp::option")]`.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::text::quote;

/// Why an instant cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not RFC 3339.
    #[error("time {given} is not RFC 3339, such as 2024-01-31T12:00:00+00:00")]
    Text {
        /// The refused text, quoted.
        given: String,
    },
    /// RFC 3339 has years 0000 to 9999 only.
    #[error("year {0} cannot be written as RFC 3339 in UTC")]
    Year(i32),
}

/// Writes an instant, such as `2024-01-31T12:00:00+00:00`; Python before 3.11 does not read a final `Z`.
///
/// # Errors
/// If the year is not 0..9999.
pub fn format(instant: OffsetDateTime) -> Result<String, TimestampError> {
    let utc = instant.checked_to_offset(UtcOffset::UTC).ok_or(TimestampError::Year(instant.year()))?;
    let text = utc.format(&Rfc3339).map_err(|_| TimestampError::Year(utc.year()))?;
    Ok(text.replace('Z', "+00:00"))
}

/// Reads RFC 3339 with any offset.
///
/// # Errors
/// If the text is something else, or the year in UTC is not 0..9999, so that it could not be written again.
pub fn parse(text: &str) -> Result<OffsetDateTime, TimestampError> {
    let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError::Text { given: quote(text) })?;
    match instant.checked_to_offset(UtcOffset::UTC) {
        Some(utc) if (0..=9999).contains(&utc.year()) => Ok(instant),
        Some(utc) => Err(TimestampError::Year(utc.year())),
        None => Err(TimestampError::Year(instant.year())),
    }
}

/// Serialises an instant.
///
/// # Errors
/// If the year is not 0..9999.
pub fn serialize<S: Serializer>(instant: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*instant).map_err(S::Error::custom)?)
}

/// Deserialises an instant.
///
/// # Errors
/// If it is not RFC 3339.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for optional instants; combine with `default` and `skip_serializing_if`.
pub mod option {
    use super::{Deserialize, Deserializer, OffsetDateTime, Serializer};
    use serde::de::Error as _;

    /// Serialises an instant or null.
    ///
    /// # Errors
    /// If the year is not 0..9999.
    pub fn serialize<S: Serializer>(instant: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match instant {
            Some(instant) => super::serialize(instant, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Deserialises an instant or null.
    ///
    /// # Errors
    /// If it is neither null nor RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| super::parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}
