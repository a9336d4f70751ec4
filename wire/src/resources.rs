//! What a cloudlet says about its load.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::text::quote;

/// Measurements by name. Values are finite; `gpu_ratio` is 0..1 even if it was reported as percent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Resources(BTreeMap<String, f64>);

/// Why a measurement was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ResourceError {
    /// Infinite or not a number.
    #[error("resource {name} is {value}, which is not a finite number")]
    NotFinite {
        /// Name of the resource, quoted.
        name: String,
        /// The refused value.
        value: f64,
    },
}

impl Resources {
    /// Busy share of the processors, 0..1.
    pub const CPU_RATIO: &'static str = "cpu_ratio";
    /// Used share of the memory, 0..1.
    pub const MEM_RATIO: &'static str = "mem_ratio";
    /// Busy share of the graphics processors, 0..1.
    pub const GPU_RATIO: &'static str = "gpu_ratio";
    /// Bytes received per second.
    pub const NET_RX_RATE: &'static str = "net_rx_rate";
    /// Bytes sent per second.
    pub const NET_TX_RATE: &'static str = "net_tx_rate";

    /// No measurements.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The measurement of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Sets a measurement. A `gpu_ratio` above 1 is taken as percent, of which there are 100 at most: more would be
    /// taken as percent again by the next who reads it.
    ///
    /// # Errors
    /// If the value is not finite.
    pub fn insert(&mut self, name: impl Into<String>, value: f64) -> Result<(), ResourceError> {
        let name = name.into();
        if !value.is_finite() {
            let name = quote(&name);
            return Err(ResourceError::NotFinite { name, value });
        }
        let percent = name == Self::GPU_RATIO && value > 1.0;
        self.0.insert(name, if percent { (value / 100.0).min(1.0) } else { value });
        Ok(())
    }

    /// All measurements, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
        let mut resources = Self::new();
        for (name, value) in given {
            if let Some(value) = value {
                resources.insert(name, value).map_err(D::Error::custom)?;
            }
        }
        Ok(resources)
    }
}
