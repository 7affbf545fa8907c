//! The server's certificate, read again when its files change, so that a renewed one needs no restart.
//!
//! The files are looked at when a client connects, at most once a second. A pair that cannot be used (half of it may be
//! written) leaves the old one in place and is complained about once.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The files that TLS needs, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who must have signed the certificates of clients; without it clients need none.
    pub client_authority: Option<PathBuf>,
    /// The oldest protocol that is spoken.
    pub oldest: TlsVersion,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read, or has something else in it.
    #[error("failed to read certificates or a key from \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// What the files have cannot be used.
    #[error("failed to use the certificates of \"{}\"", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The authority of the clients cannot be used.
    #[error("failed to use the client authority \"{}\"", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}

/// The server's side of TLS, as the files have it.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Stamps,
    looked_at: Instant,
}

/// What tells a file from the one that was there before: device, inode, time of the last change, length.
type Stamps = Vec<Option<(u64, u64, i64, i64, u64)>>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If they cannot be read or used.
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let config = Arc::new(configuration(&files)?);
        let loaded = Mutex::new(Loaded { config, stamps, looked_at: Instant::now() });
        Ok(Self { files, loaded })
    }

    /// What the next client is served with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(loaded.looked_at) < PERIOD {
            return Arc::clone(&loaded.config);
        }
        loaded.looked_at = now;
        let stamps = stamps(&self.files);
        if stamps != loaded.stamps {
            // Noted in either case: a pair that is wrong is tried again when it changes again.
            loaded.stamps = stamps;
            match configuration(&self.files) {
                Ok(config) => {
                    loaded.config = Arc::new(config);
                    tracing::info!("the streaming server has a new certificate");
                }
                Err(error) => {
                    let error = cringle_service::error::chain(&error);
                    tracing::warn!(error, "the streaming server keeps its old certificate");
                }
            }
        }
        Arc::clone(&loaded.config)
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_authority.as_ref()];
    let stamp = |path: &PathBuf| {
        let found = path.metadata().ok()?;
        Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
    };
    paths.into_iter().flatten().map(stamp).collect()
}

fn configuration(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let used = |source| TlsError::Use { path: files.certificate.clone(), source };
    let versions: &[&SupportedProtocolVersion] = match files.oldest {
        TlsVersion::V12 => &[&rustls::version::TLS12, &rustls::version::TLS13],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(used)?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path)?),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Read { path: files.key.clone(), source })?;
    let mut config =
        builder.with_single_cert(certificates(&files.certificate)?, key).map_err(used)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Use { path: path.to_owned(), source })?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|source| TlsError::Authority { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
