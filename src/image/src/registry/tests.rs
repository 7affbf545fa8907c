//! Registries that fail, lie, or want to know who asks.

use crate::registry::{AuthParts, Credentials};
use crate::settings::{ImageSettings, RegistrySettings};
use crate::testing::registry::{Act, OCI_IMAGE, OCI_INDEX, Registry, Seen};
use crate::testing::tarball::{Tarball, gzip};
use crate::testing::tls::CERTIFICATE;
use crate::testing::{TestStore, chain, settings, sha256};
use crate::{PullErrorKind, PullRequest};
use serde_json::json;
use std::time::Duration;

const SECRET: &str = "Basic dXNlcjpjYW5hcnk=";

fn credentials() -> Option<Credentials> {
    let parts = AuthParts {
        username: "user".to_owned(),
        password: "canary".to_owned(),
        ..AuthParts::default()
    };
    Credentials::from_parts(parts).expect("credentials")
}

fn archive() -> Vec<u8> {
    // Not compressible, so that it arrives in several pieces.
    let noise: Vec<u8> = (0..40_000_u32)
        .flat_map(|number| sha256(&number.to_le_bytes()).hex()[..4].bytes().collect::<Vec<_>>())
        .collect();
    Tarball::new().file("noise", &noise).finish()
}

async fn pull_with(store: &TestStore, reference: String) -> Result<(), crate::PullError> {
    store.images.pull(&PullRequest { reference, credentials: credentials() }).await.map(drop)
}

/// Pulls and fails; nothing stays, and once the fault is gone the same pull succeeds.
async fn fails(store: &TestStore, registry: &Registry, kind: PullErrorKind, case: &str) {
    let error = store.pull(&registry.reference("app:1")).await.expect_err(case);
    let text = chain(&error);
    assert_eq!(error.kind(), kind, "{case}: {text}");
    assert!(text.contains("app"), "{case}: {text} does not name the image");
    assert!(store.images.list().is_empty(), "{case}");
    for name in ["layers", "records", "blobs", "ingest"] {
        assert_eq!(store.count(name), 0, "{case}: {name}");
    }
    store
        .pull(&registry.reference("app:1"))
        .await
        .unwrap_or_else(|error| panic!("{case}: {}", chain(&error)));
    store.images.remove(&registry.reference("app:1")).await.expect("removed");
    // A layer that is still there would not be fetched again.
    store.images.finish_sweep();
}

fn status(code: u16) -> Act {
    Act::Status(code, Vec::new(), "")
}

fn redirect(code: u16, to: &str) -> Act {
    Act::Status(code, vec![("location", to.to_owned())], "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_denied_is_named_and_not_asked_again() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let error = store.pull(&registry.reference("none:1")).await.expect_err("missing");
    assert_eq!(error.kind(), PullErrorKind::NotFound);
    let text = chain(&error);
    assert!(
        text.contains(&registry.host) && text.contains("404") && text.contains("manifest"),
        "{text}"
    );
    assert_eq!(registry.seen().len(), 1);
    for (code, kind) in [(401, PullErrorKind::Unauthorized), (403, PullErrorKind::Unauthorized)] {
        let message = r#"{"errors":[{"message":"not for you"}]}"#;
        registry.script("/v2/none/manifests/1", vec![Act::Status(code, Vec::new(), message)]);
        let error = store.pull(&registry.reference("none:1")).await.expect_err("denied");
        assert_eq!(error.kind(), kind);
        assert!(chain(&error).contains("not for you"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_not_what_was_asked_for_is_never_committed() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("app", &[archive()], &json!({}));
    registry.put_manifest("app", "1", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
    let layer = format!("/v2/app/blobs/{}", parts.blob(0));
    let config = format!("/v2/app/blobs/{}", parts.id);
    let manifest = "/v2/app/manifests/1";
    let good = gzip(&archive());
    let mut wrong = good.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    let other = gzip(&Tarball::new().file("evil", &[1; 100]).finish());
    let mut padded = other;
    padded.resize(good.len(), 0);
    let longer = [good.clone(), b"more".to_vec()].concat();
    for (case, path, body, kind) in [
        ("a changed layer", &layer, wrong, PullErrorKind::DigestMismatch),
        ("another layer of the same size", &layer, padded, PullErrorKind::DigestMismatch),
        ("a longer layer", &layer, longer, PullErrorKind::RegistryUnavailable),
        ("a shorter layer", &layer, good[..100].to_vec(), PullErrorKind::RegistryUnavailable),
        ("another configuration", &config, b"{}".to_vec(), PullErrorKind::RegistryUnavailable),
        (
            "another manifest than announced",
            &manifest.to_owned(),
            b"{}".to_vec(),
            PullErrorKind::DigestMismatch,
        ),
        ("a huge manifest", &manifest.to_owned(), vec![b' '; 5 << 20], PullErrorKind::TooLarge),
    ] {
        registry.script(path, vec![Act::Body(body)]);
        fails(&store, &registry, kind, case).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_the_configurations_is_refused() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let real = registry.image("app", &[archive()], &json!({}));
    let own = crate::platform::Platform::own().architecture;
    for (case, diff_ids, kind) in [
        ("a wrong diff id", vec![sha256(b"other")], PullErrorKind::DigestMismatch),
        ("too many diff ids", vec![sha256(&archive()), sha256(b"other")], PullErrorKind::Corrupt),
        ("no diff ids", vec![], PullErrorKind::Corrupt),
    ] {
        let config = json!({"architecture": own, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let layers = real.manifest["layers"].as_array().expect("layers").clone();
        let parts = registry.parts("app", &config, &layers);
        registry.put_manifest("app", "bad", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
        let error = store.pull(&registry.reference("app:bad")).await.expect_err(case);
        assert_eq!(error.kind(), kind, "{case}: {}", chain(&error));
        assert_eq!(store.count("layers") + store.count("ingest"), 0, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_taken_up_where_they_broke() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("app", &[archive()], &json!({}));
    registry.put_manifest("app", "1", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
    let layer = format!("/v2/app/blobs/{}", parts.blob(0));
    registry.script(&layer, vec![Act::Break(5000), Act::Break(3000), Act::IgnoreRange]);
    store.pull(&registry.reference("app:1")).await.expect("pulled");
    let ranges: Vec<_> = registry
        .seen()
        .into_iter()
        .filter(|seen| seen.path == layer)
        .map(|seen| seen.range)
        .collect();
    assert_eq!(ranges, [None, Some("bytes=5000-".to_owned()), Some("bytes=8000-".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_gets_on_is_given_up() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let parts = registry.image("app", &[archive()], &json!({}));
    registry.put_manifest("app", "1", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
    let layer = format!("/v2/app/blobs/{}", parts.blob(0));
    registry.script(&layer, vec![Act::Break(0), Act::Break(0), Act::Break(0), Act::Break(0)]);
    fails(&store, &registry, PullErrorKind::RegistryUnavailable, "broken at once, always").await;
    let wrong_part =
        Act::Status(206, vec![("content-range", "bytes 9999-10000/10001".to_owned())], "");
    registry.script(&layer, vec![Act::Break(5000), wrong_part]);
    fails(&store, &registry, PullErrorKind::RegistryUnavailable, "a part from elsewhere").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_failures_are_tried_again_and_others_are_not() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[archive()]);
    let manifest = "/v2/app/manifests/1";
    let busy = Act::Status(429, vec![("retry-after", "0".to_owned())], "");
    // Both dates are the server's: the pause is none, whatever our clock says.
    let dates =
        ["date", "retry-after"].map(|name| (name, "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()));
    let busy_until = Act::Status(503, dates.to_vec(), "");
    registry.script(manifest, vec![status(500), busy, busy_until]);
    store.pull(&registry.reference("app:1")).await.expect("pulled at the fourth attempt");
    assert_eq!(registry.count(manifest), 4);
    registry.script(manifest, vec![status(502); 4]);
    let error = store.pull(&registry.reference("app:1")).await.expect_err("down");
    assert_eq!(error.kind(), PullErrorKind::RegistryUnavailable);
    assert!(chain(&error).contains("502"));
    assert_eq!(registry.count(manifest), 8);
    registry.script(manifest, vec![status(418)]);
    store.pull(&registry.reference("app:1")).await.expect_err("a status that does not pass");
    assert_eq!(registry.count(manifest), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_sends_nothing_is_not_waited_for() {
    let registry = Registry::start().await;
    let impatient = || ImageSettings {
        progress_timeout: Duration::from_millis(200),
        attempts: 1,
        ..settings()
    };
    let parts = registry.image("app", &[archive()], &json!({}));
    registry.put_manifest("app", "1", parts.manifest.to_string().as_bytes(), OCI_IMAGE);
    for path in ["/v2/app/manifests/1".to_owned(), format!("/v2/app/blobs/{}", parts.blob(0))] {
        let store = TestStore::with(impatient());
        registry.script(&path, vec![Act::Hang]);
        let before = registry.count(&path);
        // On a slow machine an earlier request may be the one that takes too long.
        while registry.count(&path) == before {
            let error = store.pull(&registry.reference("app:1")).await.expect_err(&path);
            let text = chain(&error);
            assert_eq!(error.kind(), PullErrorKind::TimedOut, "{path}: {text}");
            assert!(text.contains("app"), "{path}: {text} does not name the image");
        }
        assert!(store.images.list().is_empty(), "{path}");
        for name in ["layers", "records", "blobs", "ingest"] {
            assert_eq!(store.count(name), 0, "{path}: {name}");
        }
        let patient = store.reopened();
        patient.pull(&registry.reference("app:1")).await.expect("pulled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_the_address_is_unavailable() {
    let store = TestStore::new();
    let registry = Registry::start().await;
    let reference = registry.reference("app:1");
    drop(registry);
    let error = store.pull(&reference).await.expect_err("nobody there");
    assert_eq!(error.kind(), PullErrorKind::RegistryUnavailable, "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_other_kinds_and_machines_are_refused_by_name() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_IMAGE, "digest": sha256(b"x"), "size": 1, "platform": {"os": "plan9", "architecture": "mips"}},
    ]});
    registry.put_manifest("app", "other", index.to_string().as_bytes(), OCI_INDEX);
    let error = store.pull(&registry.reference("app:other")).await.expect_err("no platform");
    assert_eq!(error.kind(), PullErrorKind::NoPlatform);
    assert!(chain(&error).contains("plan9/mips"));
    let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
    let old_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.put_manifest("app", "old", old.as_bytes(), old_type);
    let error = store.pull(&registry.reference("app:old")).await.expect_err("schema 1");
    assert_eq!(error.kind(), PullErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_cannot_lead_on_for_ever() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let own = crate::platform::Platform::own();
    let mut inner = (sha256(b"end"), 3);
    for level in 0..9 {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            {"mediaType": OCI_INDEX, "digest": inner.0, "size": inner.1,
             "platform": {"os": own.os, "architecture": own.architecture}},
        ]})
        .to_string();
        inner = (
            registry.put_manifest("app", &format!("l{level}"), index.as_bytes(), OCI_INDEX),
            index.len(),
        );
    }
    let error = store.pull(&registry.reference("app:l8")).await.expect_err("too deep");
    assert_eq!(error.kind(), PullErrorKind::Corrupt, "{}", chain(&error));
    assert!(registry.count("/manifests/") < 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_shown_only_after_a_challenge() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[archive()]);
    registry.guard(SECRET, "Basic realm=\"r\"");
    let error = store.pull(&registry.reference("app:1")).await.expect_err("no credentials");
    assert_eq!(error.kind(), PullErrorKind::Unauthorized);
    pull_with(&store, registry.reference("app:1")).await.expect("pulled");
    let first_with = registry.seen().iter().position(|seen| seen.authorization.is_some());
    assert_eq!(first_with, Some(2), "one request without, one challenged, then with");
    // A cached image does not excuse from showing who asks.
    let error = store.pull(&registry.reference("app:1")).await.expect_err("no credentials");
    assert_eq!(error.kind(), PullErrorKind::Unauthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_fetched_with_the_password_and_used_for_all() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[archive()]);
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"s e\",scope=\"repository:app:pull\"",
        registry.host
    );
    registry.guard("Bearer t0ken", &challenge);
    registry.put("/token", br#"{"token":"t0ken","expires_in":60}"#.to_vec(), "application/json");
    pull_with(&store, registry.reference("app:1")).await.expect("pulled");
    let seen = registry.seen();
    let tokens: Vec<&Seen> = seen.iter().filter(|seen| seen.path == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].query, "scope=repository%3Aapp%3Apull&service=s%20e");
    assert_eq!(tokens[0].authorization.as_deref(), Some(SECRET));
    let leaked = seen.iter().filter(|seen| seen.path != "/token");
    assert!(leaked.clone().count() > 2);
    assert!(leaked.into_iter().all(|seen| seen.authorization.as_deref() != Some(SECRET)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_and_registry_tokens_are_used_as_such() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[archive()]);
    registry.guard("Bearer t0ken", &format!("Bearer realm=\"http://{}/token\"", registry.host));
    registry.put("/token", br#"{"access_token":"t0ken"}"#.to_vec(), "application/json");
    let with = |parts: AuthParts| PullRequest {
        reference: registry.reference("app:1"),
        credentials: Credentials::from_parts(parts).expect("credentials"),
    };
    let identity = with(AuthParts { identity_token: "i+d".to_owned(), ..AuthParts::default() });
    store.images.pull(&identity).await.expect("pulled");
    let seen = registry.seen();
    let exchange = seen.iter().find(|seen| seen.path == "/token").expect("an exchange");
    assert!(
        exchange.body.contains("grant_type=refresh_token")
            && exchange.body.contains("refresh_token=i%2Bd")
    );
    let direct = with(AuthParts { registry_token: "t0ken".to_owned(), ..AuthParts::default() });
    store.images.pull(&direct).await.expect("pulled");
    assert_eq!(registry.count("/token"), 1, "a registry token needs no exchange");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_service_elsewhere_does_not_see_the_password() {
    let (registry, elsewhere) = (Registry::start().await, Registry::start_on("127.0.0.2").await);
    let store = TestStore::new();
    registry.put_image("app", "1", &[archive()]);
    elsewhere.put("/token", br#"{"token":"t0ken"}"#.to_vec(), "application/json");
    registry.guard("Bearer t0ken", &format!("Bearer realm=\"http://{}/token\"", elsewhere.host));
    let error = pull_with(&store, registry.reference("app:1")).await.expect_err("refused");
    assert_eq!(error.kind(), PullErrorKind::Unauthorized);
    assert!(chain(&error).contains(&elsewhere.host));
    assert!(elsewhere.seen().is_empty());
    // Whoever has nothing to lose may ask there.
    store.pull(&registry.reference("app:1")).await.expect("pulled");
    // And an operator may allow it.
    let set = RegistrySettings {
        plain_http: true,
        token_hosts: vec!["127.0.0.2".to_owned()],
        ..RegistrySettings::default()
    };
    let allowed = ImageSettings { registries: [(registry.host.clone(), set)].into(), ..settings() };
    pull_with(&TestStore::with(allowed), registry.reference("app:1")).await.expect("pulled");
}

/// All redirects to all kinds of targets: the content arrives where it may, the secret only at home.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_do_not_follow_redirects() {
    let (home, port) = (Registry::start().await, Registry::start().await);
    let other = Registry::start_on("127.0.0.2").await;
    let store = TestStore::new();
    let parts = home.image("app", &[archive()], &json!({}));
    let manifest = parts.manifest.to_string();
    home.put_manifest("app", "1", manifest.as_bytes(), OCI_IMAGE);
    home.guard(SECRET, "Basic realm=\"r\"");
    for target in [&home, &port, &other] {
        target.put("/moved/manifest", manifest.clone().into_bytes(), OCI_IMAGE);
        target.put("/moved/blob", gzip(&archive()), "application/octet-stream");
    }
    for code in [301, 302, 303, 307, 308] {
        for target in [&home, &port, &other] {
            for (path, moved) in [
                ("/v2/app/manifests/1".to_owned(), "manifest"),
                (format!("/v2/app/blobs/{}", parts.blob(0)), "blob"),
            ] {
                let location = format!("http://{}/moved/{moved}", target.host);
                home.script(&path, vec![redirect(code, &location)]);
                // The manifest's first request is the one that is challenged, and takes no act.
                let pulled = pull_with(&store, home.reference("app:1")).await;
                pulled.unwrap_or_else(|error| panic!("{code} {location}: {}", chain(&error)));
                store.images.remove(&home.reference("app:1")).await.expect("removed");
                store.images.finish_sweep();
            }
        }
    }
    for target in [&port, &other] {
        let seen = target.seen();
        assert_eq!(seen.len(), 10, "each redirect arrived once");
        assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_to_nowhere_are_refused() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    registry.put_image("app", "1", &[archive()]);
    let manifest = "/v2/app/manifests/1";
    for location in [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/x",
        "http://user:pass@127.0.0.1/x",
        "",
    ] {
        registry.script(manifest, vec![redirect(307, location)]);
        let error = store.pull(&registry.reference("app:1")).await.expect_err(location);
        assert_eq!(error.kind(), PullErrorKind::RegistryUnavailable, "{location}");
    }
    registry.script(manifest, vec![redirect(307, manifest); 40]);
    let error = store.pull(&registry.reference("app:1")).await.expect_err("a loop");
    assert!(chain(&error).contains("too many redirects"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_asked_first_without_credentials_and_the_registry_helps_out() {
    let (mirror, registry) = (Registry::start().await, Registry::start().await);
    let parts = registry.image("app", &[archive()], &json!({}));
    let manifest = parts.manifest.to_string();
    registry.put_manifest("app", "1", manifest.as_bytes(), OCI_IMAGE);
    // The mirror has the manifest only.
    mirror.put_manifest("app", "1", manifest.as_bytes(), OCI_IMAGE);
    registry.guard(SECRET, "Basic realm=\"r\"");
    let set = RegistrySettings {
        mirrors: vec![format!("http://{}", mirror.host)],
        plain_http: true,
        ..RegistrySettings::default()
    };
    let mirrored =
        ImageSettings { registries: [(registry.host.clone(), set)].into(), ..settings() };
    let store = TestStore::with(mirrored);
    pull_with(&store, registry.reference("app:1")).await.expect("pulled");
    assert_eq!(store.images.list()[0].tags[0].to_string(), registry.reference("app:1"));
    assert_eq!(registry.count("/manifests/"), 0);
    let seen = mirror.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.query == format!("ns={}", registry.host)));
    assert!(seen.iter().all(|seen| seen.authorization.is_none()));
    // A mirror that is gone costs nothing but a moment.
    store.images.remove(&registry.reference("app:1")).await.expect("removed");
    drop(mirror);
    pull_with(&store, registry.reference("app:1")).await.expect("pulled from the registry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_accepted_if_the_settings_say_so() {
    let registry = Registry::start_with_tls().await;
    registry.put_image("app", "1", &[archive()]);
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    let mut file = std::fs::File::create(&ca_file).expect("a file");
    std::io::Write::write_all(&mut file, CERTIFICATE.as_bytes()).expect("written");
    let with = |set: RegistrySettings| {
        let registries = [(registry.host.clone(), set)].into();
        TestStore::with(ImageSettings { registries, attempts: 1, ..settings() })
    };
    let reference = registry.reference("app:1");
    let unknown =
        with(RegistrySettings::default()).pull(&reference).await.expect_err("an unknown issuer");
    assert_eq!(unknown.kind(), PullErrorKind::RegistryUnavailable);
    assert!(chain(&unknown).contains("certificate"), "{}", chain(&unknown));
    let trusted = RegistrySettings { ca_file: Some(ca_file), ..RegistrySettings::default() };
    with(trusted).pull(&reference).await.expect("pulled with the issuer trusted");
    let skipped = RegistrySettings { skip_verify: true, ..RegistrySettings::default() };
    with(skipped).pull(&reference).await.expect("pulled without a look");
    let missing =
        RegistrySettings { ca_file: Some("/nonexistent".into()), ..RegistrySettings::default() };
    let error = with(missing).pull(&reference).await.expect_err("no such file");
    assert_eq!(error.kind(), PullErrorKind::Misconfigured);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_is_fetched_once_for_all_pulls_that_need_it() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let shared = archive();
    let mut blob = String::new();
    for name in ["a", "b", "c", "d"] {
        let own = Tarball::new().file(name, b"own").finish();
        let parts = registry.image("app", &[shared.clone(), own], &json!({}));
        registry.put_manifest("app", name, parts.manifest.to_string().as_bytes(), OCI_IMAGE);
        blob = parts.blob(0);
    }
    let references: Vec<String> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| registry.reference(&format!("app:{name}")))
        .collect();
    let pulls = references.iter().map(|reference| store.pull(reference));
    for pulled in futures::future::join_all(pulls).await {
        pulled.expect("pulled");
    }
    assert_eq!(registry.count(&blob), 1);
    assert_eq!(store.count("layers"), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_that_a_layer_only_implies_look_as_in_the_layer_below() {
    let registry = Registry::start().await;
    let store = TestStore::new();
    let base = Tarball::new()
        .directory("tmp", 0o1777)
        .directory("srv", 0o750)
        .directory("srv/deep", 0o700)
        .finish();
    let top =
        Tarball::new().file("tmp/x", b"x").file("srv/deep/y", b"y").file("new/z", b"z").finish();
    registry.put_image("app", "1", &[base, top]);
    store.pull(&registry.reference("app:1")).await.expect("pulled");
    let image = store.images.list().remove(0);
    let top = store.images.lower_directories(&image.record).remove(0);
    let mode = |name: &str| {
        let metadata = std::fs::metadata(top.join(name)).expect(name);
        std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777
    };
    assert_eq!(["tmp", "srv", "srv/deep", "new"].map(mode), [0o1777, 0o750, 0o700, 0o755]);
}
