//! What a server shows, read again when its files change.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Args;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};

use crate::pair::Pair;
use crate::{PROTOCOLS, TlsError};

/// How often the files are looked at. Their contents are compared: times do not tell a swapped link or a quick change.
const LOOK: Duration = Duration::from_secs(2);

/// Whether to serve HTTPS, and by which certificate.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificate of this server and those of its issuers (PEM). HTTPS alone is served then; changes of both files are
    /// seen while it runs
    #[arg(long, env = "SINFONIA_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of that certificate (PEM)
    #[arg(long, env = "SINFONIA_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads the files, if they are named.
    ///
    /// # Errors
    /// If they cannot be read or are no pair.
    pub fn open(&self) -> Result<Option<Certificate>, TlsError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Certificate::open(certificate.clone(), key.clone()).map(Some),
            _ => Ok(None),
        }
    }
}

/// A certificate with its key, for as long as somebody follows its files the newest usable one.
#[derive(Clone)]
pub struct Certificate(Arc<Shared>);

struct Shared {
    pair: Pair,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// What was read last and used.
    first: u64,
}

impl Certificate {
    /// Reads a pair. Warns of a key that everybody on this machine can read.
    ///
    /// # Errors
    /// If the files cannot be read or are no pair.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let (pair, provider) = (Pair::new(certificate, key), Arc::new(ring::default_provider()));
        let contents = pair.read()?;
        let current = ArcSwap::from_pointee(pair.certified(&contents, &provider)?);
        pair.warn_if_exposed();
        let first = pair.fingerprint(&contents);
        Ok(Self(Arc::new(Shared { pair, provider, current, first })))
    }

    /// For a server that shows this certificate, whichever it is by then.
    ///
    /// # Errors
    /// Never, as rustls is built here.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.0.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }

    /// Looks at the files for ever and takes what is new in them. Connections that are open stay. What is not usable is
    /// said in the log, once, and the certificate before stays in use.
    pub async fn follow(self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch { used: self.0.first, trouble: None };
        loop {
            ticks.tick().await;
            let certificate = self.clone();
            let look = move || {
                certificate.look(&mut watch);
                watch
            };
            // It fails only when the program ends.
            let Ok(looked) = tokio::task::spawn_blocking(look).await else { return };
            watch = looked;
        }
    }

    fn look(&self, watch: &mut Watch) {
        let Shared { pair, provider, current, .. } = &*self.0;
        let found = pair.read().and_then(|contents| {
            let fingerprint = pair.fingerprint(&contents);
            let is_new = fingerprint != watch.used;
            Ok((fingerprint, is_new.then(|| pair.certified(&contents, provider)).transpose()?))
        });
        match found {
            Ok((fingerprint, new)) => {
                watch.trouble = None;
                if let Some(new) = new {
                    current.store(Arc::new(new));
                    watch.used = fingerprint;
                    tracing::info!(file = %pair.certificate.display(), "the certificate has changed: the new one is used");
                    pair.warn_if_exposed();
                }
            }
            Err(error) => watch.note(&error),
        }
    }
}

/// What was found the last times.
struct Watch {
    /// The pair in use.
    used: u64,
    /// Why the files are no use, and whether that was told.
    trouble: Option<(String, bool)>,
}

impl Watch {
    /// Tells of trouble at the second look only: at the first, one file of two may have been replaced.
    fn note(&mut self, error: &TlsError) {
        let reason = error.to_string();
        match &mut self.trouble {
            Some((known, told)) if *known == reason => {
                if !std::mem::replace(told, true) {
                    tracing::error!(%error, "the new certificate cannot be used; the one before stays in use");
                }
            }
            trouble => *trouble = Some((reason, false)),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.0.pair.certificate).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn write(directory: &std::path::Path, certificate: &str, key: &str) -> (PathBuf, PathBuf) {
        let paths = (directory.join("tls.crt"), directory.join("tls.key"));
        fs::write(&paths.0, certificate).unwrap();
        fs::write(&paths.1, key).unwrap();
        fs::set_permissions(&paths.1, fs::Permissions::from_mode(0o600)).unwrap();
        paths
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_no_pair_is_refused_with_the_file_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let ((certificate, key), (_, other)) = (pair(), pair());
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let cases = [
            (certificate.as_str(), other.as_str(), "is not that of the first certificate"),
            (&key, &key, "no BEGIN CERTIFICATE"),
            (&certificate, &certificate, "tls.key holds no usable private key"),
            (&certificate, &encrypted, "tls.key holds no usable private key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, "tls.crt holds no usable"),
            (&certificate, "", "tls.key holds no usable private key"),
        ];
        for (certificate, key, reason) in cases {
            let (first, second) = write(directory.path(), certificate, key);
            let error = Certificate::open(first, second).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(reason), "{reason}: {shown}");
            assert!(key.lines().nth(1).is_none_or(|line| !shown.contains(line)), "{shown}");
        }
        let (first, second) = write(directory.path(), &certificate, &key);
        fs::remove_file(&second).unwrap();
        let error = Certificate::open(first, second).unwrap_err().to_string();
        assert!(error.contains("--tls-key") && error.contains("tls.key cannot be read"), "{error}");
    }

    #[test]
    fn a_new_pair_is_used_however_it_comes() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("1"), directory.path().join("2"));
        for path in [&first, &second] {
            fs::create_dir(path).unwrap();
            let (certificate, key) = pair();
            write(path, &certificate, &key);
        }
        // As Kubernetes mounts secrets: the files lead through a link that is replaced.
        let link = directory.path().join("current");
        std::os::unix::fs::symlink(&first, &link).unwrap();
        let certificate = Certificate::open(link.join("tls.crt"), link.join("tls.key")).unwrap();
        let shown = || certificate.0.current.load().cert[0].clone();
        let mut watch = Watch { used: certificate.0.first, trouble: None };
        let before = shown();
        certificate.look(&mut watch);
        assert_eq!(shown(), before);

        fs::write(second.join("tls.key"), "half").unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&second, &link).unwrap();
        for told in [false, true, true] {
            certificate.look(&mut watch);
            assert_eq!((shown(), watch.trouble.as_ref().unwrap().1), (before.clone(), told));
        }
        let (new, key) = pair();
        write(&second, &new, &key);
        certificate.look(&mut watch);
        assert!(shown() != before && watch.trouble.is_none());
    }
}
