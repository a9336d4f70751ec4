//! What travels between Sinfonia's tiers, as types that cannot hold invalid values.
//!
//! Text and JSON enter through `FromStr`, `TryFrom` and `Deserialize`, which share one check per type. Unknown JSON
//! fields are ignored, `null` counts as absent, and optional fields that are not set are left out when written.

mod chart;
mod cloudlet;
pub mod cluster;
mod deployment;
mod domain;
mod endpoint;
mod id;
mod key;
mod label;
mod location;
mod network;
mod problem;
mod quantity;
mod recipe;
mod resources;
mod results;
#[cfg(feature = "openapi")]
mod schema;
mod text;
pub mod timestamp;
mod tunnel;
mod tunnel_endpoint;

pub use chart::{ChartName, ChartReference, ChartReferenceError, ChartVersion, ChartVersionError};
pub use cloudlet::CloudletInfo;
pub use deployment::{CloudletDeployment, DeploymentStatus};
pub use domain::{DomainName, DomainNameError};
pub use endpoint::{DeployEndpoint, DeployEndpointError};
pub use id::{ApplicationId, CloudletId, IdError};
pub use key::{PublicKey, PublicKeyError};
pub use label::{DeploymentName, LabelError, ServiceName};
pub use location::{Location, LocationError};
pub use network::{Network, NetworkError};
pub use problem::{PROBLEM_JSON, Problem};
pub use quantity::{Quantity, QuantityError};
pub use recipe::{LocalRecipe, LocalRecipeError, PublicRecipe, Recipe, ResourceLimits};
pub use resources::{ResourceError, Resources};
pub use results::{Results, ResultsError};
pub use tunnel::{Dns, TunnelConfig};
pub use tunnel_endpoint::{Host, TunnelEndpoint, TunnelEndpointError};

/// Path under which every tier serves this version of the API.
pub const API_BASE: &str = "/api/v1";

/// Request headers beyond the standard ones.
pub mod header {
    /// Address of the client on whose behalf a request is made.
    pub const X_CLIENT_IP: &str = "X-ClientIP";
    /// Where the client is, as `lat,lon` in degrees.
    pub const X_LOCATION: &str = "X-Location";
    /// How many tiers have passed this request on, to end loops.
    pub const X_HOPS: &str = "X-Sinfonia-Hops";
}
