//! Where addresses are, from a MaxMind database.

use maxminddb::Reader;
use serde::Deserialize;
use sinfonia_wire::Location;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Knows places of addresses, or nothing if there is no database.
#[derive(Default)]
pub(crate) struct GeoIp(Option<Reader<Vec<u8>>>);

/// The database is not usable.
#[derive(Debug, Error)]
#[error("GeoIP database {}: {source}; expected a city database in MaxMind's .mmdb format", path.display())]
pub struct GeoIpError {
    path: PathBuf,
    source: maxminddb::MaxMindDbError,
}

#[derive(Deserialize)]
struct City {
    location: Option<Coordinates>,
}

#[derive(Deserialize)]
struct Coordinates {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl GeoIp {
    /// Reads a database into memory.
    ///
    /// # Errors
    /// When there is none at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, GeoIpError> {
        let reader = Reader::open_readfile(path).map_err(|source| GeoIpError { path: path.to_owned(), source })?;
        Ok(Self(Some(reader)))
    }

    /// Where an address is, if known.
    #[must_use]
    pub(crate) fn locate(&self, address: IpAddr) -> Option<Location> {
        let record = self.0.as_ref()?.lookup(address.to_canonical()).ok()?;
        let Coordinates { latitude, longitude } = record.decode::<City>().ok()??.location?;
        Location::new(latitude?, longitude?).ok()
    }
}

impl std::fmt::Debug for GeoIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GeoIp").field(&self.0.is_some()).finish()
    }
}
