//! Where a tunnel's packets go.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::domain::{DomainName, DomainNameError};
use crate::text::{quote, serde_as_text};

/// UDP endpoint of a WireGuard peer: `host:port` or `[v6]:port`. The port is never 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelEndpoint {
    host: Host,
    port: u16,
}

/// The host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name yet to be resolved.
    Name(DomainName),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

/// Why something is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelEndpointError {
    /// No `:port` at the end.
    #[error("tunnel endpoint {given} has no port; expected host:port or [IPv6]:port")]
    NoPort {
        /// The refused text, quoted.
        given: String,
    },
    /// The port is 0 or no number.
    #[error("tunnel endpoint {given}: the port must be 1..65535")]
    Port {
        /// The refused text, quoted.
        given: String,
    },
    /// Brackets hold no IPv6 address, or an IPv6 address has none.
    #[error("tunnel endpoint {given}: an IPv6 address stands in brackets, such as [2001:db8::1]:51820")]
    Ipv6 {
        /// The refused text, quoted.
        given: String,
    },
    /// Neither address nor name.
    #[error("tunnel endpoint {given}: {source}")]
    Host {
        /// The refused text, quoted.
        given: String,
        /// What is wrong with the name.
        source: DomainNameError,
    },
}

impl TunnelEndpoint {
    /// An endpoint by host and port.
    ///
    /// # Errors
    /// If the port is 0.
    pub fn new(host: impl Into<Host>, port: u16) -> Result<Self, TunnelEndpointError> {
        let endpoint = Self { host: host.into(), port };
        if port == 0 {
            let given = quote(&endpoint.to_string());
            return Err(TunnelEndpointError::Port { given });
        }
        Ok(endpoint)
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The UDP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, if the host needs no name resolution.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Name(_) => None,
            Host::V4(address) => Some((address, self.port).into()),
            Host::V6(address) => Some((address, self.port).into()),
        }
    }
}

impl TryFrom<SocketAddr> for TunnelEndpoint {
    type Error = TunnelEndpointError;

    fn try_from(address: SocketAddr) -> Result<Self, TunnelEndpointError> {
        Self::new(address.ip(), address.port())
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl From<DomainName> for Host {
    fn from(name: DomainName) -> Self {
        Self::Name(name)
    }
}

impl FromStr for TunnelEndpoint {
    type Err = TunnelEndpointError;

    fn from_str(text: &str) -> Result<Self, TunnelEndpointError> {
        let given = || quote(text);
        let (host, port) = text
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .ok_or_else(|| TunnelEndpointError::NoPort { given: given() })?;
        let host = parse_host(host, given)?;
        let port = Some(port)
            .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| TunnelEndpointError::Port { given: given() })?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for TunnelEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V6(address) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => address.fmt(f),
        }
    }
}

serde_as_text!(TunnelEndpoint);

fn parse_host(text: &str, given: impl Fn() -> String) -> Result<Host, TunnelEndpointError> {
    if text.contains(['[', ']', ':']) {
        return text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .and_then(|address| address.parse().ok())
            .map(Host::V6)
            .ok_or_else(|| TunnelEndpointError::Ipv6 { given: given() });
    }
    if let Ok(address) = text.parse() {
        return Ok(Host::V4(address));
    }
    text.parse().map(Host::Name).map_err(|source| TunnelEndpointError::Host { given: given(), source })
}
