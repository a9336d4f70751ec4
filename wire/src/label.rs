//! Names that are DNS labels.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::text::{quote, serde_as_text};

/// Readable name of one deployment. In a cluster it is the namespace, the Helm release and the Kilo peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentName(String);

/// Name under which a local recipe's server is reached through the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(String);

/// Why a text is no DNS label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No characters at all.
    #[error("the name is empty; expected 1 to 63 lower-case letters, digits and hyphens")]
    Empty,
    /// Longer than DNS allows.
    #[error("name {given} has {length} characters; a DNS label has at most 63")]
    TooLong {
        /// The refused text, quoted.
        given: String,
        /// How many there were.
        length: usize,
    },
    /// Something besides lower-case letters, digits and hyphens.
    #[error("name {given} contains {character:?}; only lower-case letters, digits and hyphens are allowed")]
    Character {
        /// The refused text, quoted.
        given: String,
        /// The first refused character.
        character: char,
    },
    /// Hyphen at either end.
    #[error("name {given} must begin and end with a letter or digit")]
    Hyphen {
        /// The refused text, quoted.
        given: String,
    },
}

macro_rules! label {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LabelError;

            fn from_str(text: &str) -> Result<Self, LabelError> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = LabelError;

            fn try_from(text: String) -> Result<Self, LabelError> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

label!(DeploymentName);
label!(ServiceName);
serde_as_text!(DeploymentName, ServiceName);

fn check(text: &str) -> Result<(), LabelError> {
    if text.is_empty() {
        return Err(LabelError::Empty);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(character) = text.chars().find(|&c| !allowed(c)) {
        let given = quote(text);
        return Err(LabelError::Character { given, character });
    }
    if text.len() > 63 {
        let (given, length) = (quote(text), text.len());
        return Err(LabelError::TooLong { given, length });
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(LabelError::Hyphen { given: quote(text) });
    }
    Ok(())
}
