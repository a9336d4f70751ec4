//! A certificate and its key, from files.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::TlsError;

const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";
/// Permission bits of everybody who neither owns a file nor belongs to its group.
const OTHERS: u32 = 0o007;

/// Where the two are.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Tells contents apart without keeping them.
    hasher: RandomState,
}

/// What the files held at one time.
pub(crate) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, hasher: RandomState::new() }
    }

    pub(crate) fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents { certificate: read(CERTIFICATE, &self.certificate)?, key: read(KEY, &self.key)? })
    }

    /// The same for the same contents, wherever the files are by now.
    pub(crate) fn fingerprint(&self, contents: &Contents) -> u64 {
        self.hasher.hash_one((&contents.certificate, &contents.key))
    }

    pub(crate) fn certified(&self, contents: &Contents, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(CERTIFICATE, &self.certificate, &contents.certificate)?;
        let invalid = |reason: String| TlsError::Invalid {
            option: KEY,
            path: self.key.clone(),
            expected: "private key (PEM, not encrypted)",
            reason,
        };
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| invalid(error.to_string()))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            rustls::Error::InvalidCertificate(reason) => TlsError::Invalid {
                option: CERTIFICATE,
                path: self.certificate.clone(),
                expected: "certificate (PEM)",
                reason: format!("{reason:?}"),
            },
            other => invalid(other.to_string()),
        })
    }

    /// Warns of a key that everybody on this machine can read.
    pub(crate) fn warn_if_exposed(&self) {
        if fs::metadata(&self.key).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0) {
            tracing::warn!(
                file = %self.key.display(),
                "every user of this machine can read the private key: take that away with chmod o-rwx, and consider \
                 another key"
            );
        }
    }
}

/// The certificates in a file, at least one.
pub(crate) fn certificates(
    option: &'static str,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let invalid =
        |reason: String| TlsError::Invalid { option, path: path.to_owned(), expected: "certificate (PEM)", reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(list) if list.is_empty() => Err(invalid("there is no BEGIN CERTIFICATE in it".to_owned())),
        Ok(list) => Ok(list),
        Err(error) => Err(invalid(error.to_string())),
    }
}

pub(crate) fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { option, path: path.to_owned(), source })
}
