//! Identities of applications and cloudlets.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::text::{quote, serde_as_text};

/// Names an application, and so the recipe that deploys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApplicationId(Uuid);

/// Names a cloudlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloudletId(Uuid);

/// Why a text names no application or cloudlet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("{given} is not a UUID such as 00000000-0000-0000-0000-000000000000")]
    NotUuid {
        /// The refused text, quoted.
        given: String,
    },
    /// Neither an alias nor a UUID.
    #[error("application {given} is neither a UUID nor a known alias (helloworld)")]
    UnknownAlias {
        /// The refused text, quoted.
        given: String,
    },
}

impl ApplicationId {
    /// The well-known test application: nginx, reached as `http://helloworld/`.
    pub const HELLOWORLD: Self = Self(Uuid::nil());

    /// Takes a UUID or one of the aliases a person may type.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn resolve(text: &str) -> Result<Self, IdError> {
        match text {
            "helloworld" => Ok(Self::HELLOWORLD),
            _ => text.parse().map_err(|_| IdError::UnknownAlias { given: quote(text) }),
        }
    }
}

impl CloudletId {
    /// A new identity that no other cloudlet has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

macro_rules! id {
    ($name:ident) => {
        impl $name {
            /// The UUID itself.
            #[must_use]
            pub const fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::NotUuid { given: quote(text) })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(ApplicationId);
id!(CloudletId);
serde_as_text!(ApplicationId, CloudletId);
