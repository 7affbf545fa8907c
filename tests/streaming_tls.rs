//! The streaming server with a certificate: who trusts its authority gets through, nobody else does, and a certificate
//! that is replaced is used without a restart.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_tests::request::{container, pod};
use cringle_tests::session::exec;
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use cringle_tests::websocket::{Client, address};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const V5: &str = "v5.channel.k8s.io";

/// Makes a certificate and its key; of itself an authority, or signed by one, for the loopback address.
fn certify(directory: &Path, name: &str, authority: Option<&Path>) -> Result<PathBuf> {
    let certificate = directory.join(format!("{name}.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name} of a test")]);
    command.arg("-keyout").arg(certificate.with_extension("key")).arg("-out").arg(&certificate);
    if let Some(authority) = authority {
        command.arg("-CA").arg(authority).arg("-CAkey").arg(authority.with_extension("key"));
        command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    let made = command.output().context("failed to run \"openssl\"")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(certificate)
}

/// Puts a certificate and its key where the daemon looks for them.
fn install(directory: &Path, from: &Path) -> Result<()> {
    for kind in ["key", "pem"] {
        let draft = directory.join("draft");
        std::fs::copy(from.with_extension(kind), &draft)?;
        std::fs::rename(draft, directory.join("served").with_extension(kind))?;
    }
    Ok(())
}

/// An encrypted connection of a client that trusts one authority.
async fn connect(url: &str, trusted: &Path) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted)?)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address(url)?).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Executes over an encrypted WebSocket.
async fn greets(url: &str, trusted: &Path) -> Result<()> {
    let mut client = Client::over(connect(url, trusted).await?, url, V5).await?;
    client.send(0, b"secret\n").await?;
    client.expect(1, "secret").await?;
    client.send(255, &[0]).await?;
    let status = client.finish().await?;
    ensure!(status == "{\"status\":\"Success\"}", "{status}");
    Ok(())
}

async fn url(stage: &mut Stage, id: &str) -> Result<String> {
    let url = stage.cri.exec_url(exec(id, &["cat"])).await?;
    ensure!(url.starts_with("https://127.0.0.1:"), "{url}");
    Ok(url)
}

/// A daemon that has this certificate, and a container.
async fn serve(stage: &mut Stage, certificate: &Path) -> Result<(String, String)> {
    let directory = stage.directory().to_owned();
    install(&directory, certificate)?;
    let [certificate, key] = ["served.pem", "served.key"].map(|name| directory.join(name));
    let text = format!("\n[streaming]\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n");
    stage.configure(&text).await?;
    stage.run(&pod("tls"), &container("main", BUSYBOX, &["sleep", "6000"])).await
}

#[test]
fn only_who_trusts_the_authority_gets_through() -> Result<()> {
    on_stage(async |stage| {
        let directory = stage.directory().to_owned();
        let [ours, other] = ["ours", "other"].map(|name| certify(&directory, name, None));
        let (ours, other) = (ours?, other?);
        let (pod, id) = serve(stage, &certify(&directory, "server", Some(&ours))?).await?;
        let url_once = url(stage, &id).await?;
        let refused = connect(&url_once, &other).await;
        ensure!(refused.is_err(), "another authority was trusted");
        // Who was not heard has not used up the URL.
        greets(&url_once, &ours).await?;

        let plain = url(stage, &id).await?;
        let mut stream = TcpStream::connect(address(&plain)?).await?;
        let path = plain.rsplit_once("/exec/").context("a URL has its verb")?.1;
        stream.write_all(format!("GET /exec/{path} HTTP/1.1\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        // However the server hangs up.
        let _end = stream.read_to_end(&mut answer).await;
        ensure!(!answer.starts_with(b"HTTP"), "a client that does not encrypt was answered");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_certificate_that_is_replaced_is_used_without_a_restart() -> Result<()> {
    on_stage(async |stage| {
        let directory = stage.directory().to_owned();
        let old = certify(&directory, "old", None)?;
        let new = certify(&directory, "new", None)?;
        let (pod, id) = serve(stage, &certify(&directory, "first", Some(&old))?).await?;
        let before = url(stage, &id).await?;
        let mut lasting = Client::over(connect(&before, &old).await?, &before, V5).await?;
        lasting.send(0, b"begun\n").await?;
        lasting.expect(1, "begun").await?;

        install(&directory, &certify(&directory, "second", Some(&new))?)?;
        let after = url(stage, &id).await?;
        until("the new one is served", async || Ok(connect(&after, &new).await.is_ok())).await?;
        greets(&after, &new).await?;
        let refused = connect(&after, &old).await;
        ensure!(refused.is_err(), "the old certificate is still served");
        // Who has a connection keeps it.
        lasting.send(0, b"goes on\n").await?;
        lasting.expect(1, "goes on").await?;
        drop(lasting);
        stage.cri.take_away(&pod).await
    })
}
