//! Certificates for 127.0.0.1, each signed by itself, valid until 2120. Their keys are public and so protect nothing.

use super::*;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io::Write;
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const FIRST_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIBATAKBggqhkjOPQQDAjAlMSMwIQYDVQQDDBpzdHJlYW1p
bmcgc2VydmVyIG9mIGEgdGVzdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAw
MDAwMFowJTEjMCEGA1UEAwwac3RyZWFtaW5nIHNlcnZlciBvZiBhIHRlc3QwWTAT
BgcqhkjOPQIBBggqhkjOPQMBBwNCAASHVoH6Oq7ml3jVi9PaSs3SCN8vVseWZBiH
fZnETbGc6AIVd1iIYcT9Um25t9lJbc5l6MDnou3M3TDXBvGrBwWko0AwPjAPBgNV
HREECDAGhwR/AAABMAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYEFCGyjBUMM3GT3v1W
1wjgaM4cGGt7MAoGCCqGSM49BAMCA0gAMEUCIGZZOz2HnjjQdJNI11MFQ7fGs9Uy
qj0rXEYKtQW9SjXtAiEAyxmQZOkKXCg33/UrOPclz/4o0jyFz4GLIrEhPTqvujs=
-----END CERTIFICATE-----
";

const FIRST_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjZ8HMVhConQPwxLc
1ijAkAr/WnjCaar3TqQMI/oakX6hRANCAASHVoH6Oq7ml3jVi9PaSs3SCN8vVseW
ZBiHfZnETbGc6AIVd1iIYcT9Um25t9lJbc5l6MDnou3M3TDXBvGrBwWk
-----END PRIVATE KEY-----
";

const SECOND_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIBAjAKBggqhkjOPQQDAjAlMSMwIQYDVQQDDBpzdHJlYW1p
bmcgc2VydmVyIG9mIGEgdGVzdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAw
MDAwMFowJTEjMCEGA1UEAwwac3RyZWFtaW5nIHNlcnZlciBvZiBhIHRlc3QwWTAT
BgcqhkjOPQIBBggqhkjOPQMBBwNCAASBLoWDP5sbPGfKRFAzVQiZJo8PQieBPUPy
tEHtyxo58zUDXz/oDt1Ra3vkfIHe08CTBAl5iAqoQujmTcaNARZlo0AwPjAPBgNV
HREECDAGhwR/AAABMAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYEFGa07Zcx6K11hDsQ
TjqSFSiqftHPMAoGCCqGSM49BAMCA0gAMEUCICxwiNss+QCLCHE9fJXiJ5gh7esH
emBnW8MOMmjliQnwAiEAunlN41XCRZhS35fAtotCbQFMBPC5vZmo3BARvDn/Hmg=
-----END CERTIFICATE-----
";

const SECOND_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3xcZBAiCFsBw0cYI
R0aFVI11iM6Fj/tiPj63leb3GWahRANCAASBLoWDP5sbPGfKRFAzVQiZJo8PQieB
PUPytEHtyxo58zUDXz/oDt1Ra3vkfIHe08CTBAl5iAqoQujmTcaNARZl
-----END PRIVATE KEY-----
";

/// The first pair in files.
fn files(directory: &TempDir) -> TlsFiles {
    let files = TlsFiles {
        certificate: directory.path().join("certificate.pem"),
        key: directory.path().join("key.pem"),
        client_authority: None,
        oldest: TlsVersion::V12,
    };
    replace(&files.certificate, FIRST_CERTIFICATE);
    replace(&files.key, FIRST_KEY);
    files
}

fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::File::create(&draft).unwrap().write_all(text.as_bytes()).unwrap();
    std::fs::rename(draft, path).unwrap();
}

/// Shakes hands as a client that trusts this certificate.
async fn connects(tls: &Tls, trusted: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = TlsAcceptor::from(tls.current()).accept(far);
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = TlsConnector::from(Arc::new(client)).connect(name, near);
    let (server, client) = tokio::join!(server, client);
    server.is_ok() && client.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_changed_is_used_and_a_wrong_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory);
    let tls = Tls::load(files.clone()).unwrap();
    assert!(connects(&tls, FIRST_CERTIFICATE).await);
    assert!(!connects(&tls, SECOND_CERTIFICATE).await);

    // Half of a change: the key of one certificate with another certificate.
    replace(&files.certificate, SECOND_CERTIFICATE);
    tokio::time::advance(PERIOD).await;
    assert!(connects(&tls, FIRST_CERTIFICATE).await);

    replace(&files.key, SECOND_KEY);
    tokio::time::advance(PERIOD).await;
    assert!(connects(&tls, SECOND_CERTIFICATE).await);
    assert!(!connects(&tls, FIRST_CERTIFICATE).await);

    std::fs::remove_file(&files.certificate).unwrap();
    tokio::time::advance(PERIOD).await;
    assert!(connects(&tls, SECOND_CERTIFICATE).await);
}

#[tokio::test]
async fn clients_need_a_certificate_if_there_is_an_authority() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory);
    let client_authority = Some(files.certificate.clone());
    let tls = Tls::load(TlsFiles { client_authority, ..files }).unwrap();
    assert!(!connects(&tls, FIRST_CERTIFICATE).await);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory);
    let missing = directory.path().join("missing.pem");
    let wrong = TlsFiles { certificate: missing.clone(), ..files.clone() };
    assert!(matches!(Tls::load(wrong), Err(TlsError::Read { path, .. }) if path == missing));
    let wrong = TlsFiles { certificate: files.key.clone(), ..files.clone() };
    assert!(matches!(Tls::load(wrong), Err(TlsError::Read { path, .. }) if path == files.key));
    replace(&files.key, SECOND_KEY);
    assert!(matches!(Tls::load(files), Err(TlsError::Use { .. })));
}
