//! What tier1 knows about a cloudlet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::endpoint::DeployEndpoint;
use crate::id::CloudletId;
use crate::location::Location;
use crate::network::Network;
use crate::resources::Resources;
use crate::text::null_as_default;
use crate::timestamp;

/// A cloudlet as it reports itself and as tier1 lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CloudletInfo {
    /// Its identity; required in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<CloudletId>,
    /// Readable name; by default the host of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where deployments are asked for.
    pub endpoint: DeployEndpoint,
    /// Where it is; the nearest counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locations: Option<Vec<Location>>,
    /// Clients in these are near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_networks: Option<Vec<Network>>,
    /// Only clients in one of these are served; absent or empty: everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_clients: Option<Vec<Network>>,
    /// Clients in these are not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_clients: Option<Vec<Network>>,
    /// Its load. Written even if empty, as the existing tier1 does.
    #[serde(default, deserialize_with = "null_as_default")]
    pub resources: Resources,
    /// Free-form properties for recipes to select by.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// No new deployments, please.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// When it last reported.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "timestamp::option")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_update: Option<OffsetDateTime>,
}

impl CloudletInfo {
    /// A cloudlet of which only the endpoint is known.
    #[must_use]
    pub const fn new(endpoint: DeployEndpoint) -> Self {
        Self {
            uuid: None,
            name: None,
            endpoint,
            locations: None,
            local_networks: None,
            accepted_clients: None,
            rejected_clients: None,
            resources: Resources::new(),
            labels: BTreeMap::new(),
            draining: false,
            last_update: None,
        }
    }

    /// Its name, or else the host of its endpoint.
    #[must_use]
    pub fn name_or_host(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.endpoint.host())
    }
}
