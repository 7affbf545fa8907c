use super::*;
use crate::registry::transport::Verification;

fn bases(settings: &ImageSettings, registry: &str) -> Vec<String> {
    endpoints(settings, registry)
        .expect("endpoints")
        .into_iter()
        .map(|endpoint| endpoint.base)
        .collect()
}

fn with_file(name: &str, text: &str) -> (tempfile::TempDir, ImageSettings) {
    let directory = tempfile::tempdir().expect("a directory");
    let host = directory.path().join(name);
    std::fs::create_dir_all(&host).expect("a directory for the host");
    let file = host.join("hosts.toml");
    std::io::Write::write_all(&mut std::fs::File::create(file).expect("a file"), text.as_bytes())
        .expect("written");
    let settings = ImageSettings {
        registry_config_directory: Some(directory.path().to_owned()),
        ..ImageSettings::default()
    };
    (directory, settings)
}

#[test]
fn a_registry_without_settings_is_asked_by_https_and_loopback_by_http_first() {
    let settings = ImageSettings::default();
    assert_eq!(bases(&settings, "docker.io"), ["https://registry-1.docker.io/v2"]);
    assert_eq!(bases(&settings, "example.org:5000"), ["https://example.org:5000/v2"]);
    for host in ["127.0.0.1:5000", "127.8.8.8", "localhost:5000", "[::1]:5000"] {
        assert_eq!(
            bases(&settings, host),
            [format!("http://{host}/v2"), format!("https://{host}/v2")],
            "{host}"
        );
    }
}

#[test]
fn mirrors_are_asked_before_the_registry() {
    let mut settings = ImageSettings::default();
    let set = RegistrySettings {
        mirrors: vec![
            "http://127.0.0.1:5000".to_owned(),
            "https://m.example.org/v2/proxy/".to_owned(),
        ],
        ..RegistrySettings::default()
    };
    settings.registries.insert("registry.k8s.io".to_owned(), set);
    let found = endpoints(&settings, "registry.k8s.io").expect("endpoints");
    let summary: Vec<_> =
        found.iter().map(|endpoint| (endpoint.base.as_str(), endpoint.role)).collect();
    assert_eq!(
        summary,
        [
            ("http://127.0.0.1:5000/v2", Role::Mirror),
            ("https://m.example.org/v2/proxy/v2", Role::Mirror),
            ("https://registry.k8s.io/v2", Role::Registry),
        ]
    );
}

#[test]
fn a_url_that_is_none_is_an_error() {
    for url in ["", "ftp://a", "http://user:secret@a", "https://a/?x=y"] {
        let mut settings = ImageSettings::default();
        let set = RegistrySettings { mirrors: vec![url.to_owned()], ..RegistrySettings::default() };
        settings.registries.insert("a.io".to_owned(), set);
        assert!(endpoints(&settings, "a.io").is_err(), "{url}");
    }
}

#[test]
fn a_hosts_file_is_read_in_its_order() {
    let (_directory, settings) = with_file(
        "docker.io",
        r#"
        server = "https://docker.io"
        [host."https://z.example.org"]
          capabilities = ["pull", "resolve"]
          ca = "ca.pem"
          client = [["c.pem", "c.key"]]
          [host."https://z.example.org".header]
            x-one = "1"
            x-two = ["2", "3"]
        [host."http://a.example.org/api"]
          capabilities = ["pull"]
          override_path = true
          skip_verify = true
        "#,
    );
    let found = endpoints(&settings, "docker.io").expect("endpoints");
    let bases: Vec<_> = found.iter().map(|endpoint| endpoint.base.as_str()).collect();
    assert_eq!(
        bases,
        ["https://z.example.org/v2", "http://a.example.org/api", "https://registry-1.docker.io/v2"]
    );
    assert_eq!(found[0].headers.get_all("x-two").iter().count(), 2);
    assert!(found[0].tls.roots[0].ends_with("docker.io/ca.pem"));
    assert_eq!(found[1].scope, Scope::Content);
    assert_eq!(found[1].tls.verification, Verification::Skipped);
    assert_eq!(found[2].role, Role::Registry);
}

#[test]
fn the_default_file_serves_all_other_hosts() {
    let (_directory, settings) = with_file("_default", "[host.\"http://127.0.0.1:5000\"]\n");
    assert_eq!(bases(&settings, "gcr.io"), ["http://127.0.0.1:5000/v2", "https://gcr.io/v2"]);
    let (_directory, settings) = with_file("gcr.io_8080_", "server = \"http://gcr.io:8080\"\n");
    assert_eq!(bases(&settings, "gcr.io:8080"), ["http://gcr.io:8080/v2"]);
}

#[test]
fn a_malformed_hosts_file_is_an_error_and_not_ignored() {
    for text in
        ["server = ", "[host.\"https://a\"]\ncapabilities = []", "[host.\"https://a\"]\nca = 1"]
    {
        let (_directory, settings) = with_file("a.io", text);
        assert!(endpoints(&settings, "a.io").is_err(), "{text}");
    }
}
