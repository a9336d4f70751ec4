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
#[error("GeoIP database {} cannot be read; expected a city database in MaxMind's .mmdb format", path.display())]
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

#[cfg(test)]
mod tests {
    use super::GeoIp;
    use sinfonia_wire::Location;
    use std::{fs, path::Path};

    /// The format's parts that a small database needs (MaxMind DB specification 2.0).
    mod mmdb {
        pub(super) fn text(text: &str) -> Vec<u8> {
            [&[2 << 5 | text.len() as u8][..], text.as_bytes()].concat()
        }

        pub(super) fn number(kind: u8, value: u16) -> Vec<u8> {
            [&[kind << 5 | 2][..], &value.to_be_bytes()].concat()
        }

        pub(super) fn double(value: f64) -> Vec<u8> {
            [&[3 << 5 | 8][..], &value.to_be_bytes()].concat()
        }

        pub(super) fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
            let mut map = vec![7 << 5 | entries.len() as u8];
            entries.iter().for_each(|(name, value)| map.extend([text(name), value.clone()].concat()));
            map
        }

        /// A database in which the addresses that begin with a 0 bit have the first record, others the second.
        pub(super) fn database(records: [Vec<u8>; 2]) -> Vec<u8> {
            let offsets = [0, records[0].len() as u32];
            // One node of two 24-bit pointers into the data, which begins 16 after the number of nodes.
            let node = offsets.map(|offset| (1 + 16 + offset).to_be_bytes()[1..].to_vec()).concat();
            let metadata = map(&[
                ("node_count", number(6, 1)),
                ("record_size", number(5, 24)),
                ("ip_version", number(5, 4)),
                ("database_type", text("Test-City")),
                ("binary_format_major_version", number(5, 2)),
                ("binary_format_minor_version", number(5, 0)),
                ("build_epoch", vec![4, 2, 0, 0, 0, 1]),
                ("description", map(&[])),
                ("languages", vec![0, 4]),
            ]);
            [node, vec![0; 16], records.concat(), b"\xab\xcd\xefMaxMind.com".to_vec(), metadata].concat()
        }
    }

    fn place(lat: f64, lon: f64) -> Vec<u8> {
        let coordinates = [("latitude", mmdb::double(lat)), ("longitude", mmdb::double(lon))];
        mmdb::map(&[("location", mmdb::map(&coordinates))])
    }

    #[test]
    fn addresses_have_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("city.mmdb");
        fs::write(&path, mmdb::database([place(40.44, -79.94), place(91.0, 0.0)])).unwrap();
        let geoip = GeoIp::open(&path).unwrap();
        let pittsburgh = Some(Location::new(40.44, -79.94).unwrap());
        let cases = [
            ("100.2.0.1", pittsburgh),
            ("::ffff:100.2.0.1", pittsburgh),
            // A place that is none, and a family that the database does not have.
            ("200.0.0.1", None),
            ("2001:db8::1", None),
        ];
        for (address, expected) in cases {
            assert_eq!(geoip.locate(address.parse().unwrap()), expected, "{address}");
        }
        assert_eq!(GeoIp::default().locate("100.2.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_missing_database_is_named() {
        let error = GeoIp::open(Path::new("/nonexistent.mmdb")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent.mmdb"), "{error}");
    }
}
