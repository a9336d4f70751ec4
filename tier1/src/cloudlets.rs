//! The operator's list of cloudlets, `cloudlets.yaml`.

use serde::{Deserialize, Deserializer, de::Error as _};
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint, Location, Network, Resources};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;
use uuid::Uuid;

/// The list cannot be used.
#[derive(Debug, Error)]
pub enum CloudletsError {
    /// The file is not there or may not be read.
    #[error("cloudlets file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A document is no cloudlet.
    #[error("cloudlets file {}: document {document}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which of its documents that are not empty, from 1.
        document: usize,
        /// Field, place, and what was wrong.
        reason: String,
    },
}

/// Reads a list. Cloudlets get an identity that stays the same as long as their endpoint does.
///
/// # Errors
/// Names file, document and field.
pub(crate) fn read(path: &Path) -> Result<Vec<CloudletInfo>, CloudletsError> {
    let text = fs::read(path).map_err(|source| CloudletsError::Unreadable { path: path.to_owned(), source })?;
    parse(&text).map_err(|(document, reason)| CloudletsError::Invalid { path: path.to_owned(), document, reason })
}

/// Reads a list's text, or says in which document what is wrong.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<CloudletInfo>, (usize, String)> {
    let mut text = text;
    let mut known: HashMap<DeployEndpoint, u32> = HashMap::new();
    let documents = serde_saphyr::read::<_, Entry>(&mut text).enumerate();
    documents
        .map(|(index, entry)| {
            let mut info = entry.map_err(|error| (index + 1, error.without_snippet().to_string()))?.0;
            let count = known.entry(info.endpoint.clone()).or_default();
            let name = format!("{}#{count}", info.endpoint);
            *count += 1;
            info.uuid = Some(CloudletId::from(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())));
            Ok(info)
        })
        .collect()
}

/// A document, with errors that name the field.
struct Entry(CloudletInfo);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(document: D) -> Result<Self, D::Error> {
        let fields: Fields = serde_path_to_error::deserialize(document).map_err(|error| {
            let (path, reason) = (error.path().to_string(), error.into_inner());
            D::Error::custom(format!("{path}: {reason}"))
        })?;
        Ok(Self(fields.into()))
    }
}

/// The fields of a document.
#[derive(Deserialize)]
pub(crate) struct Fields {
    endpoint: DeployEndpoint,
    name: Option<String>,
    location: Option<Location>,
    locations: Option<Vec<Location>>,
    local_networks: Option<Vec<Network>>,
    accepted_clients: Option<Vec<Network>>,
    rejected_clients: Option<Vec<Network>>,
    resources: Option<Resources>,
    labels: Option<BTreeMap<String, String>>,
    draining: Option<bool>,
}

impl From<Fields> for CloudletInfo {
    fn from(fields: Fields) -> Self {
        let locations = match (fields.location, fields.locations) {
            (Some(location), others) => Some(std::iter::once(location).chain(others.into_iter().flatten()).collect()),
            (None, others) => others,
        };
        Self {
            name: fields.name,
            locations,
            local_networks: fields.local_networks,
            accepted_clients: fields.accepted_clients,
            rejected_clients: fields.rejected_clients,
            resources: fields.resources.unwrap_or_default(),
            labels: fields.labels.unwrap_or_default(),
            draining: fields.draining.unwrap_or_default(),
            ..Self::new(fields.endpoint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = "endpoint: http://cloudlet.example/api/v1/deploy";

    #[test]
    fn documents_become_cloudlets() {
        let text = format!(
            "---\n---\n{ENDPOINT}\nlocation: [40.44, -79.94]\nlocations: [[1, 2]]\nlocal_networks: [198.51.100.7/24]\n\
             ---\n# nothing\n---\n{ENDPOINT}/\nname: second\ndraining: true\n"
        );
        let list = parse(text.as_bytes()).unwrap();
        let [first, second] = &list[..] else { panic!("{list:?}") };
        let place = |lat, lon| Location::new(lat, lon).unwrap();
        assert_eq!(first.locations, Some(vec![place(40.44, -79.94), place(1.0, 2.0)]));
        assert_eq!(first.local_networks, Some(vec!["198.51.100.0/24".parse().unwrap()]));
        assert_eq!((second.name.as_deref(), second.draining, &second.locations), (Some("second"), true, &None));
        assert_eq!(first.endpoint, second.endpoint);
        assert_ne!(first.uuid, second.uuid);
        assert_eq!(parse(text.as_bytes()).unwrap(), list, "identities stay");
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn errors_say_where() {
        let cases = [
            ("location: [91, 0]", "location", "latitude 91"),
            ("locations: [[0, 0], [0, 181]]", "locations[1]", "longitude 181"),
            ("endpoint: nonsense", "endpoint", "not a URL"),
            ("name: x", "", "endpoint"),
            ("local_networks: [10.0.0.0/33]", "local_networks[0]", "0..32"),
            ("draining: maybe", "draining", "bool"),
            ("resources: {cpu_ratio: .inf}", "resources", "finite"),
            ("name: [", "", ""),
        ];
        for (line, field, reason) in cases {
            let own = if line.starts_with("endpoint") || line == "name: x" { "" } else { ENDPOINT };
            let text = format!("{ENDPOINT}\n---\n{own}\n{line}\n");
            let (document, error) = parse(text.as_bytes()).unwrap_err();
            assert_eq!(document, 2, "{line}: {error}");
            assert!(error.contains(field) && error.contains(reason), "{line}: {error}");
            assert!(error.contains("line"), "{line}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/cloudlets.yaml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/cloudlets.yaml"), "{error}");
    }
}
