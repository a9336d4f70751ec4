//! One application's deployment on one cloudlet.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::id::{ApplicationId, CloudletId};
use crate::key::PublicKey;
use crate::label::DeploymentName;
use crate::timestamp;
use crate::tunnel::TunnelConfig;

/// What a deploy request answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CloudletDeployment {
    /// The application.
    #[serde(rename = "UUID")]
    pub uuid: ApplicationId,
    /// The client's key.
    #[serde(rename = "ApplicationKey")]
    pub application_key: PublicKey,
    /// Where it is in its life.
    #[serde(rename = "Status")]
    pub status: DeploymentStatus,
    /// Its readable name.
    #[serde(rename = "DeploymentName", default, skip_serializing_if = "Option::is_none")]
    pub deployment_name: Option<DeploymentName>,
    /// When it was made.
    #[serde(rename = "Created", default, skip_serializing_if = "Option::is_none", with = "timestamp::option")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub created: Option<OffsetDateTime>,
    /// How to reach it.
    #[serde(rename = "TunnelConfig")]
    pub tunnel_config: TunnelConfig,
    /// The cloudlet that holds it; added by tier1.
    #[serde(rename = "Cloudlet", default, skip_serializing_if = "Option::is_none")]
    pub cloudlet: Option<CloudletId>,
}

/// The states of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DeploymentStatus {
    /// Being made; not usable yet.
    Initializing,
    /// Usable.
    Deployed,
    /// Its lease has ended; it is being taken down, unless it is asked for again.
    Expiring,
    /// Nothing is left.
    Expired,
}

impl fmt::Display for DeploymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
