//! Places on earth.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::quote;

/// A point in WGS84 degrees. Text form `lat,lon`, JSON form `[lat, lon]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    lat: f64,
    lon: f64,
}

/// Why something is no location.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LocationError {
    /// Latitude out of range, or not a number.
    #[error("latitude {0} is outside -90..90")]
    Latitude(f64),
    /// Longitude out of range, or not a number.
    #[error("longitude {0} is outside -180..180")]
    Longitude(f64),
    /// Not two numbers with a comma between them.
    #[error("location {given} is not 'latitude,longitude' in degrees, such as 40.44,-79.94")]
    Text {
        /// The refused text, quoted.
        given: String,
    },
    /// A list that has not two numbers.
    #[error("a location is [latitude, longitude], two numbers; this list has {0}")]
    Count(usize),
}

impl Location {
    /// A point by latitude (-90..90) and longitude (-180..180), in degrees.
    ///
    /// # Errors
    /// If either is out of range or not finite.
    pub fn new(lat: f64, lon: f64) -> Result<Self, LocationError> {
        if !(-90.0..=90.0).contains(&lat) {
            return Err(LocationError::Latitude(lat));
        }
        if !(-180.0..=180.0).contains(&lon) {
            return Err(LocationError::Longitude(lon));
        }
        Ok(Self { lat, lon })
    }

    /// Latitude in degrees, north positive.
    #[must_use]
    pub const fn lat(&self) -> f64 {
        self.lat
    }

    /// Longitude in degrees, east positive.
    #[must_use]
    pub const fn lon(&self) -> f64 {
        self.lon
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let number = |part: &str| part.trim().parse::<f64>().ok();
        let (lat, lon) = text
            .split_once(',')
            .and_then(|(lat, lon)| Some((number(lat)?, number(lon)?)))
            .ok_or_else(|| LocationError::Text { given: quote(text) })?;
        Self::new(lat, lon)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.lat, self.lon)
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.lat, self.lon].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = Vec::<f64>::deserialize(deserializer)?;
        match numbers[..] {
            [lat, lon] => Self::new(lat, lon),
            _ => Err(LocationError::Count(numbers.len())),
        }
        .map_err(D::Error::custom)
    }
}
