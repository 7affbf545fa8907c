//! Certificates: the system's roots, and what the settings add for one host.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Why the certificates for a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or has something else in it.
    #[error("failed to read certificates or a key from \"{}\"", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The file's content can't be used.
    #[error("failed to use the certificates of \"{}\"", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The library refused the set-up.
    #[error("failed to set up TLS")]
    Configure(#[source] rustls::Error),
}

/// How TLS is used with one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsOptions {
    /// Files with certificates that are trusted besides the system's.
    pub(crate) roots: Vec<PathBuf>,
    /// Our certificate chain and key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) verification: Verification,
}

/// Whether the host must prove who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Verification {
    #[default]
    Required,
    Skipped,
}

pub(super) fn configuration(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configure)?;
    let builder = match options.verification {
        Verification::Required => builder.with_root_certificates(roots(&options.roots)?),
        Verification::Skipped => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
    };
    let Some((chain_path, key_path)) = &options.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(chain_path)?;
    let key = PrivateKeyDer::from_pem_file(key_path)
        .map_err(|source| TlsError::Read { path: key_path.clone(), source })?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|source| TlsError::Use { path: chain_path.clone(), source })
}

fn roots(files: &[PathBuf]) -> Result<Arc<RootCertStore>, TlsError> {
    let system = system_roots();
    if files.is_empty() {
        return Ok(system);
    }
    let mut store = RootCertStore::clone(&system);
    for path in files {
        for certificate in certificates(path)? {
            store
                .add(certificate)
                .map_err(|source| TlsError::Use { path: path.clone(), source })?;
        }
    }
    Ok(Arc::new(store))
}

/// Read once: it takes ten milliseconds, and a changed trust store is worth a restart.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_added, unusable) = store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            tracing::warn!(unusable, "no system certificates found: registries can't be verified");
        }
        Arc::new(store)
    }))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// Takes any certificate, for hosts where the operator said so. Signatures are checked all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
