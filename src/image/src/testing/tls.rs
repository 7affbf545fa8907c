//! A certificate for 127.0.0.1, signed by itself, valid until 2120. Its key is public and so protects nothing.

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

pub(crate) const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBazCCARGgAwIBAgIBATAKBggqhkjOPQQDAjAdMRswGQYDVQQDDBJyZWdpc3Ry
eSBvZiBhIHRlc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMB0x
GzAZBgNVBAMMEnJlZ2lzdHJ5IG9mIGEgdGVzdDBZMBMGByqGSM49AgEGCCqGSM49
AwEHA0IABBM8xNsDEBhSbMsm55eza9KNCZEzqviQRR9QOAe59BDtS9AFee9fewcW
aS/HPXVBkC04pcSOXaL1iViERW7rEbCjQDA+MA8GA1UdEQQIMAaHBH8AAAEwDAYD
VR0TAQH/BAIwADAdBgNVHQ4EFgQUmy90o4nNByIX1Q5kEz94bHI+ulAwCgYIKoZI
zj0EAwIDSAAwRQIhAJlspzZjtv9kIqpQhuCXS5BZVllk86VEcJWCHnJRSuVhAiB3
/q3wtuaS2CHbdaNgK4EfRWs2/+mva7PywWH2aihySQ==
-----END CERTIFICATE-----
";

const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4m9Wyo59x2K9qpL6
mqhmZwTymzePrY1Ek+DzrZwSYpihRANCAAQTPMTbAxAYUmzLJueXs2vSjQmRM6r4
kEUfUDgHufQQ7UvQBXnvX3sHFmkvxz11QZAtOKXEjl2i9YlYhEVu6xGw
-----END PRIVATE KEY-----
";

/// The server's side of connections that show this certificate.
pub(crate) fn acceptor() -> TlsAcceptor {
    let chain =
        vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate with its key");
    TlsAcceptor::from(Arc::new(config))
}
