//! An image's configuration: from JSON to what containers take from it.

use crate::platform::Platform;
use cringle_domain::image::ImageConfig;
use cringle_domain::reference::{Algorithm, Digest};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It isn't a configuration.
    #[error("malformed image configuration: {0}")]
    Malformed(String),
    /// It's for another machine.
    #[error("the image is for {found}, this machine is {wanted}")]
    Platform {
        /// This machine's platform.
        wanted: String,
        /// The image's.
        found: String,
    },
    /// It lists other layers than the manifest.
    #[error("the configuration has {config} layers, the manifest {manifest}")]
    LayerCount {
        /// How many the configuration has.
        config: usize,
        /// How many the manifest has.
        manifest: usize,
    },
}

/// A configuration and the identities of the layers, the base first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Raw {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawProcess>,
    rootfs: Option<RawLayers>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProcess {
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawLayers {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<Digest>>,
}

/// Reads the configuration of an image whose manifest has so many layers.
pub(crate) fn parse(
    bytes: &[u8],
    layers: usize,
    platform: &Platform,
) -> Result<Parsed, ConfigError> {
    let malformed = |problem: &str| ConfigError::Malformed(problem.to_owned());
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|error| ConfigError::Malformed(error.to_string()))?;
    let (os, architecture) = (raw.os.unwrap_or_default(), raw.architecture.unwrap_or_default());
    check_platform(&os, &architecture, raw.variant.unwrap_or_default(), platform)?;
    let rootfs = raw.rootfs.ok_or_else(|| malformed("it lists no layers"))?;
    if rootfs.kind.as_deref().is_some_and(|kind| kind != "layers") {
        return Err(malformed("its root filesystem is not made of layers"));
    }
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers {
        return Err(ConfigError::LayerCount { config: diff_ids.len(), manifest: layers });
    }
    if diff_ids.iter().any(|diff_id| diff_id.algorithm() != Algorithm::Sha256) {
        return Err(malformed("a layer is not named by its SHA-256"));
    }
    let process = raw.config.unwrap_or_default();
    let config = ImageConfig {
        env: process.env.unwrap_or_default(),
        entrypoint: process.entrypoint.unwrap_or_default(),
        cmd: process.cmd.unwrap_or_default(),
        user: process.user.unwrap_or_default(),
        working_dir: process.working_dir.unwrap_or_default(),
        volumes: keys(process.volumes),
        stop_signal: process.stop_signal.unwrap_or_default(),
        labels: process.labels.unwrap_or_default(),
        exposed_ports: keys(process.exposed_ports),
        architecture,
        os,
        created: raw.created.unwrap_or_default(),
    };
    Ok(Parsed { config, diff_ids })
}

/// An image that does not say what it is for is taken at the client's word.
fn check_platform(
    os: &str,
    architecture: &str,
    variant: String,
    own: &Platform,
) -> Result<(), ConfigError> {
    let or_own =
        |text: &str, own: &str| if text.is_empty() { own.to_owned() } else { text.to_owned() };
    let found = Platform {
        os: or_own(os, &own.os),
        architecture: or_own(architecture, &own.architecture),
        variant,
    };
    if own.can_run(&found) {
        Ok(())
    } else {
        Err(ConfigError::Platform { wanted: own.to_string(), found: found.to_string() })
    }
}

fn keys(map: Option<BTreeMap<String, IgnoredAny>>) -> Vec<String> {
    map.unwrap_or_default().into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Platform {
        Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: String::new(),
        }
    }

    fn diff_id() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    #[test]
    fn what_containers_take_is_found() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z",
            "config":{{"User":"1002:7","Env":["A=b"],"Entrypoint":["/e"],"Cmd":["c"],"WorkingDir":"/w",
            "Volumes":{{"/v":{{}}}},"StopSignal":"SIGINT","Labels":{{"l":"m"}},"ExposedPorts":{{"80/tcp":{{}}}}}},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":[{{"created_by":"x"}}]}}"#,
            diff_id()
        );
        let parsed = parse(text.as_bytes(), 1, &own()).expect("a configuration");
        assert_eq!(parsed.diff_ids.len(), 1);
        assert_eq!(parsed.config.user, "1002:7");
        assert_eq!(parsed.config.volumes, ["/v"]);
        assert_eq!(parsed.config.exposed_ports, ["80/tcp"]);
        assert_eq!(parsed.config.labels.get("l").map(String::as_str), Some("m"));
    }

    #[test]
    fn null_means_absent() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Volumes":null,
            "Labels":null,"User":null},"rootfs":{"diff_ids":null}}"#;
        let parsed = parse(text.as_bytes(), 0, &own()).expect("a configuration");
        assert_eq!(parsed.config.env, Vec::<String>::new());
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_refused() {
        for text in [
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"rootfs":{"type":"other","diff_ids":[]}}"#.to_owned(),
            format!(r#"{{"rootfs":{{"diff_ids":["{0}","{0}"]}}}}"#, diff_id()),
            r#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#.to_owned(),
            format!(r#"{{"architecture":"s390x","rootfs":{{"diff_ids":["{}"]}}}}"#, diff_id()),
            format!(r#"{{"os":"windows","rootfs":{{"diff_ids":["{}"]}}}}"#, diff_id()),
            format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}} trailing"#, diff_id()),
        ] {
            assert!(parse(text.as_bytes(), 1, &own()).is_err(), "{text}");
        }
    }
}
