//! Whom clients trust.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use crate::pair::{certificates, read};
use crate::{PROTOCOLS, TlsError};

const OPTION: &str = "--tls-ca";

/// Whose certificates are believed beside those of the public authorities.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsTrust {
    /// Certificates of further authorities (PEM) that https servers may be certified by, beside the public ones
    #[arg(long, env = "SINFONIA_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

impl TlsTrust {
    /// For clients that believe these; none if only the public authorities count, which is what clients do by
    /// themselves.
    ///
    /// # Errors
    /// If the file cannot be read or holds no certificates.
    pub fn client_config(&self) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        let Some(path) = &self.tls_ca else { return Ok(None) };
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in certificates(OPTION, path, &read(OPTION, path)?)? {
            roots.add(certificate).map_err(|error| TlsError::Invalid {
                option: OPTION,
                path: path.clone(),
                expected: "certificate (PEM)",
                reason: error.to_string(),
            })?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Some(Arc::new(config)))
    }
}
