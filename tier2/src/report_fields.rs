//! What a cloudlet tells about itself, apart from its load.

use std::collections::BTreeMap;

use clap::Args;
use sinfonia_wire::{CloudletId, CloudletInfo, DeployEndpoint, Location, Network, Resources};
use thiserror::Error;

/// What reports say of the cloudlet.
#[derive(Debug, Clone, Args)]
pub struct ReportOptions {
    /// Name of this cloudlet in reports.
    #[arg(long, env = "SINFONIA_NAME")]
    name: Option<String>,

    /// Where this cloudlet is, in degrees; repeat for more, of which the nearest counts (in the environment: with
    /// semicolons between).
    #[arg(long, env = "SINFONIA_LOCATION", value_name = "LAT,LON", allow_hyphen_values = true, value_delimiter = ';')]
    location: Vec<Location>,

    /// Network whose clients are near; repeat for more.
    #[arg(long, env = "SINFONIA_LOCAL_NETWORK", value_name = "NETWORK", value_delimiter = ',')]
    local_network: Vec<Network>,

    /// Network whose clients are served, instead of everyone; repeat for more.
    #[arg(long, env = "SINFONIA_ACCEPT_CLIENT", value_name = "NETWORK", value_delimiter = ',')]
    accept_client: Vec<Network>,

    /// Network whose clients are not served; repeat for more.
    #[arg(long, env = "SINFONIA_REJECT_CLIENT", value_name = "NETWORK", value_delimiter = ',')]
    reject_client: Vec<Network>,

    /// Property by which recipes select cloudlets; repeat for more.
    #[arg(long, env = "SINFONIA_LABEL", value_name = "NAME=TEXT", value_delimiter = ',')]
    label: Vec<Label>,
}

/// A property with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    name: String,
    value: String,
}

/// A text that is no label.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("expected NAME=TEXT, such as gpu=a100; the name is 1 to 63 letters, digits, '_', '-', '.' or '/'")]
struct LabelError;

impl std::str::FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (name, value) = text.split_once('=').ok_or(LabelError)?;
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        if !(1..=63).contains(&name.len()) || !name.chars().all(known) {
            return Err(LabelError);
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// What a cloudlet tells about itself, apart from identity and load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReportFields {
    /// Readable name.
    pub name: Option<String>,
    /// Where it is.
    pub locations: Vec<Location>,
    /// Clients in these are near.
    pub local_networks: Vec<Network>,
    /// Only clients in these are served; everyone if empty.
    pub accepted_clients: Vec<Network>,
    /// Clients in these are not served.
    pub rejected_clients: Vec<Network>,
    /// Properties for recipes to select by.
    pub labels: BTreeMap<String, String>,
}

impl From<ReportOptions> for ReportFields {
    /// Of a label that is given twice the last counts.
    fn from(options: ReportOptions) -> Self {
        Self {
            name: options.name,
            locations: options.location,
            local_networks: options.local_network,
            accepted_clients: options.accept_client,
            rejected_clients: options.reject_client,
            labels: options.label.into_iter().map(|label| (label.name, label.value)).collect(),
        }
    }
}

impl ReportFields {
    /// The report of the cloudlet `id`, which takes deploy requests at `endpoint`; `draining` if no new ones.
    #[must_use]
    pub fn info(
        &self,
        id: CloudletId,
        endpoint: &DeployEndpoint,
        draining: bool,
        resources: Resources,
    ) -> CloudletInfo {
        fn given<T: Clone>(list: &[T]) -> Option<Vec<T>> {
            (!list.is_empty()).then(|| list.to_vec())
        }
        CloudletInfo {
            uuid: Some(id),
            name: self.name.clone(),
            locations: given(&self.locations),
            local_networks: given(&self.local_networks),
            accepted_clients: given(&self.accepted_clients),
            rejected_clients: given(&self.rejected_clients),
            labels: self.labels.clone(),
            draining,
            resources,
            ..CloudletInfo::new(endpoint.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        report: ReportOptions,
    }

    fn parse(arguments: &[&str]) -> Result<ReportFields, String> {
        let parsed = Program::try_parse_from([&["tier2"], arguments].concat());
        parsed.map(|program| program.report.into()).map_err(|error| error.to_string())
    }

    fn info(arguments: &[&str], draining: bool) -> serde_json::Value {
        let id = "11111111-2222-4333-8444-555555555555".parse().unwrap();
        let endpoint = "http://edge.example.org/api/v1/deploy".parse().unwrap();
        serde_json::to_value(parse(arguments).unwrap().info(id, &endpoint, draining, Resources::new())).unwrap()
    }

    #[test]
    fn everything_given_is_reported() {
        let arguments = [
            "--name=Edge",
            "--location",
            "-33.9,-70.5",
            "--location",
            "40.44,-79.94",
            "--local-network",
            "192.0.2.0/24,2001:db8::/32",
            "--accept-client",
            "198.51.100.0/24",
            "--reject-client",
            "203.0.113.7",
            "--reject-client",
            "203.0.113.8",
            "--label",
            "gpu=a100",
            "--label",
            "site=roof=top",
            "--label",
            "gpu=h100",
        ];
        let expected = json!({
            "uuid": "11111111-2222-4333-8444-555555555555",
            "endpoint": "http://edge.example.org/api/v1/deploy",
            "name": "Edge",
            "locations": [[-33.9, -70.5], [40.44, -79.94]],
            "local_networks": ["192.0.2.0/24", "2001:db8::/32"],
            "accepted_clients": ["198.51.100.0/24"],
            "rejected_clients": ["203.0.113.7/32", "203.0.113.8/32"],
            "labels": {"gpu": "h100", "site": "roof=top"},
            "draining": true,
            "resources": {},
        });
        assert_eq!(info(&arguments, true), expected);
    }

    #[test]
    fn nothing_given_is_left_out() {
        let report = info(&[], false);
        let fields: Vec<&String> = report.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["endpoint", "resources", "uuid"]);
    }

    #[test]
    fn bad_values_are_refused_with_the_option_named() {
        for arguments in [
            ["--location", "91,0"],
            ["--local-network", "10.0.0.0/33"],
            ["--accept-client", "everyone"],
            ["--reject-client", ""],
            ["--label", "gpu"],
            ["--label", "=a100"],
            ["--label", "my gpu=a100"],
        ] {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(arguments[0]), "{error}");
        }
    }
}
