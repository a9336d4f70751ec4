//! How an application is deployed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::chart::{ChartReference, ChartVersion};
use crate::label::ServiceName;
use crate::quantity::Quantity;
use crate::text::null_as_default;

/// A recipe as its file has it. It is not serialisable, so that `local` is not given away: see [`Recipe::public`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Recipe {
    /// The Helm chart.
    pub chart: ChartReference,
    /// Its version.
    pub version: ChartVersion,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Helm values.
    #[serde(default, deserialize_with = "null_as_default")]
    pub values: Map<String, Value>,
    /// Whether tier1 keeps the recipe to itself; true unless stated.
    #[serde(default = "restricted", deserialize_with = "null_as_restricted")]
    pub restricted: bool,
    /// CEL condition that a cloudlet must meet.
    #[serde(default)]
    pub requires: Option<String>,
    /// CEL expression that ranks cloudlets.
    #[serde(default)]
    pub prefer: Option<String>,
    /// How a cloudlet without Kubernetes runs it.
    #[serde(default)]
    pub local: Option<LocalRecipe>,
    /// After this many seconds a deployment ends even if it is in use; for ever unless stated.
    #[serde(default)]
    pub max_age: Option<NonZeroU32>,
    /// What a deployment may use of a cluster, by Kubernetes' names; a part that is absent is the cloudlet's default.
    #[serde(default, deserialize_with = "null_as_default")]
    pub resources: ResourceLimits,
}

/// What one deployment may use of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// The namespace's ResourceQuota, as `limits.memory: 2Gi`.
    #[serde(default)]
    pub quota: Option<BTreeMap<String, Quantity>>,
    /// Limits of a container that states none (LimitRange), as `memory: 256Mi`.
    #[serde(default)]
    pub default_limits: Option<BTreeMap<String, Quantity>>,
    /// Requests of a container that states none (LimitRange).
    #[serde(default)]
    pub default_requests: Option<BTreeMap<String, Quantity>>,
}

/// How the local driver runs an application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "LocalRecipeFields")]
pub struct LocalRecipe(LocalRecipeFields);

/// Why a local recipe cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalRecipeError {
    /// No program to run.
    #[error("local.command is empty; expected a program and its arguments")]
    NoCommand,
    /// A NUL character, which no argument can hold.
    #[error("local.command must not contain NUL characters")]
    CommandNul,
    /// A name or value that no environment can hold.
    #[error("local.environment: {name:?} has no valid name or value (empty name, '=' in it, or a NUL character)")]
    Environment {
        /// Name of the variable.
        name: String,
    },
    /// Port 0.
    #[error("local.port is 0; expected the TCP port the command listens on, 1..65535")]
    Port,
}

/// The answer to `GET /recipe/{uuid}/`: a recipe without `local`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = Recipe))]
pub struct PublicRecipe<'a> {
    /// The Helm chart.
    chart: &'a ChartReference,
    /// Its version.
    version: &'a ChartVersion,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// Helm values.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, required = false))]
    values: &'a Map<String, Value>,
    /// Whether tier1 keeps it to itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "openapi", schema(required = false))]
    restricted: bool,
    /// CEL condition that a cloudlet must meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    requires: Option<&'a str>,
    /// CEL expression that ranks cloudlets.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer: Option<&'a str>,
}

impl Recipe {
    /// What tier1 tells about it. `restricted` is left out if false, as existing clients know it.
    #[must_use]
    pub fn public(&self) -> PublicRecipe<'_> {
        PublicRecipe {
            chart: &self.chart,
            version: &self.version,
            description: self.description.as_deref(),
            values: &self.values,
            restricted: self.restricted,
            requires: self.requires.as_deref(),
            prefer: self.prefer.as_deref(),
        }
    }
}

impl LocalRecipe {
    /// A command that serves `service` on TCP port `port`.
    ///
    /// # Errors
    /// If the command is empty, the port is 0, or a text cannot be passed to a process.
    pub fn new(
        command: Vec<String>,
        environment: BTreeMap<String, String>,
        port: u16,
        service: ServiceName,
    ) -> Result<Self, LocalRecipeError> {
        LocalRecipeFields { command, environment, port, service }.try_into()
    }

    /// Program and arguments; never empty.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.0.command
    }

    /// Variables for the command, beyond those it always gets.
    #[must_use]
    pub const fn environment(&self) -> &BTreeMap<String, String> {
        &self.0.environment
    }

    /// TCP port the command listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.0.port
    }

    /// Name under which clients reach it.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.0.service
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct LocalRecipeFields {
    command: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    environment: BTreeMap<String, String>,
    port: u16,
    service: ServiceName,
}

impl TryFrom<LocalRecipeFields> for LocalRecipe {
    type Error = LocalRecipeError;

    fn try_from(fields: LocalRecipeFields) -> Result<Self, LocalRecipeError> {
        if fields.command.first().is_none_or(String::is_empty) {
            return Err(LocalRecipeError::NoCommand);
        }
        if fields.command.iter().any(|argument| argument.contains('\0')) {
            return Err(LocalRecipeError::CommandNul);
        }
        let broken =
            |(name, value): &(&String, &String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        if let Some((name, _)) = fields.environment.iter().find(broken) {
            let name = name.clone();
            return Err(LocalRecipeError::Environment { name });
        }
        if fields.port == 0 {
            return Err(LocalRecipeError::Port);
        }
        Ok(Self(fields))
    }
}

const fn restricted() -> bool {
    true
}

fn null_as_restricted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(restricted))
}
