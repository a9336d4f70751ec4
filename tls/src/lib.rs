//! TLS by rustls: the certificate of a server, which may change while it serves, and whom clients trust.

mod certificate;
mod error;
mod pair;
mod trust;

pub use certificate::{Certificate, TlsFiles};
pub use error::TlsError;
pub use trust::TlsTrust;

pub use rustls::{ClientConfig, ServerConfig};

/// What is spoken inside, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
