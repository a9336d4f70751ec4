//! Domain and host names.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::label::DeploymentName;
use crate::text::{quote, serde_as_text};

/// A domain name, safe to write into resolv.conf. A final dot is dropped; case is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

/// Why a text is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainNameError {
    /// Longer than DNS allows.
    #[error("domain name {given} has more than 253 characters")]
    TooLong {
        /// The refused text, quoted.
        given: String,
    },
    /// A part between dots that is no label.
    #[error(
        "{given} is not a domain name: between its dots must be 1 to 63 letters, digits, hyphens and underscores, \
         with no hyphen first or last"
    )]
    Label {
        /// The refused text, quoted.
        given: String,
    },
    /// Ends in a number, as only addresses do.
    #[error("{given} is neither an IP address nor a domain name, which cannot end in a number")]
    Numeric {
        /// The refused text, quoted.
        given: String,
    },
}

impl DomainName {
    /// The name as text, without a final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, DomainNameError> {
        let given = || quote(text);
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > 253 {
            return Err(DomainNameError::TooLong { given: given() });
        }
        if !name.split('.').all(is_label) {
            return Err(DomainNameError::Label { given: given() });
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DomainNameError::Numeric { given: given() });
        }
        Ok(Self(name.to_owned()))
    }
}

impl DeploymentName {
    /// Where a cluster's resolver looks for this deployment's services, in order.
    #[must_use]
    pub fn search_domains(&self) -> Vec<DomainName> {
        vec![
            DomainName(format!("{self}.svc.cluster.local")),
            DomainName("svc.cluster.local".to_owned()),
            DomainName("cluster.local".to_owned()),
        ]
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsRef<str> for DomainName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

serde_as_text!(DomainName);

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}
