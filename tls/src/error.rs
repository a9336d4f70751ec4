//! What can be wrong with certificates and keys. Neither is repeated.

use std::io;
use std::path::PathBuf;

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{option}: {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what the file should hold.
    #[error("{option}: {} holds no usable {expected}: {reason}", path.display())]
    Invalid {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold, and in which form.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Both are well, but not together.
    #[error(
        "the key in {} is not that of the first certificate in {}: name a pair, and put the server's own certificate \
         before those of its issuers",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// `--tls-cert`.
        certificate: PathBuf,
        /// `--tls-key`.
        key: PathBuf,
    },
    /// rustls cannot work as it was built.
    #[error("TLS cannot be used: {0}")]
    Unavailable(#[from] rustls::Error),
}
