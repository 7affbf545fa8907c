//! Manifests and indexes: from bytes to one image for this machine, or a clear refusal.
//!
//! A document is read as what it says it is. If the registry's type, its own type and the type in the descriptor that led
//! to it disagree, or if it could be read in two ways, it's refused: two readers could otherwise see different images
//! under one digest.

use crate::platform::Platform;
use crate::registry::session::Document;
use cringle_domain::reference::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// overlayfs stacks at most 500 layers.
const MOST_LAYERS: usize = 500;
const MOST_MANIFESTS: usize = 1000;
const LARGEST_CONFIG: u64 = 8 << 20;

/// Why a manifest or index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It isn't what its type says, or not clearly.
    #[error("malformed manifest: {0}")]
    Malformed(String),
    /// It is well formed, but nothing that this runtime can run.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// No image in the index is for this machine.
    #[error("no image for {wanted}, only for {found}")]
    NoPlatform {
        /// This machine's platform.
        wanted: String,
        /// Those that the index has.
        found: String,
    },
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    platform: Option<Platform>,
}

/// What a document turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// A list of images; the one for this machine.
    Index(Descriptor),
    /// One image.
    Image(ImageManifest),
}

/// The parts of one image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// The union of all forms, to see which one a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Index,
    Image,
    Old,
}

impl Manifest {
    /// Reads a document that a descriptor with that type led to, if one did.
    pub(crate) fn parse(
        document: &Document,
        expected_type: Option<&str>,
        platform: &Platform,
    ) -> Result<Self, ManifestError> {
        let raw: Raw = serde_json::from_slice(&document.bytes)
            .map_err(|error| ManifestError::Malformed(error.to_string()))?;
        let content_type = document.content_type.as_deref().map(base_type);
        match form_of(&raw, content_type, expected_type)? {
            Form::Index => choose(raw.manifests.unwrap_or_default(), platform).map(Self::Index),
            Form::Image => image(raw).map(Self::Image),
            Form::Old => {
                Err(ManifestError::Unsupported("a manifest of schema version 1".to_owned()))
            }
        }
    }
}

fn form_of(
    raw: &Raw,
    content_type: Option<&str>,
    expected_type: Option<&str>,
) -> Result<Form, ManifestError> {
    let malformed = |problem: &str| ManifestError::Malformed(problem.to_owned());
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
        return Ok(Form::Old);
    }
    if raw.schema_version != Some(2) {
        return Err(malformed("its schema version is not 2"));
    }
    let mut known = None;
    // What a registry sends as `application/json` says nothing; what it sends as a manifest must be one of that kind.
    let types = [raw.media_type.as_deref(), content_type, expected_type].into_iter().flatten();
    for media_type in types.filter(|media_type| !media_type.is_empty()) {
        let Some(form) = form_by_type(media_type) else { continue };
        if known.is_some_and(|(_, other)| other != media_type) {
            return Err(malformed("it is sent as another type than its own"));
        }
        known = Some((form, media_type));
    }
    if let Some(own) = &raw.media_type
        && form_by_type(own).is_none()
    {
        return Err(ManifestError::Unsupported(format!(
            "a manifest of type \"{}\"",
            own.escape_default()
        )));
    }
    let Some((form, _)) = known else { return Err(malformed("it has no type")) };
    let shape = (raw.manifests.is_some(), raw.config.is_some() || raw.layers.is_some());
    match (form, shape) {
        (Form::Index, (true, false)) | (Form::Image, (false, true)) | (Form::Old, _) => Ok(form),
        (Form::Index | Form::Image, (true, true)) => {
            Err(malformed("it is an index and an image at once"))
        }
        (Form::Index | Form::Image, _) => Err(malformed("it lacks what its type should have")),
    }
}

fn form_by_type(media_type: &str) -> Option<Form> {
    match media_type {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Form::Index),
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(Form::Image),
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Some(Form::Old),
        _ => None,
    }
}

fn choose(manifests: Vec<Descriptor>, platform: &Platform) -> Result<Descriptor, ManifestError> {
    if manifests.len() > MOST_MANIFESTS {
        return Err(ManifestError::Malformed(format!(
            "more than {MOST_MANIFESTS} images in one index"
        )));
    }
    let found: Vec<String> = manifests
        .iter()
        .filter_map(|descriptor| descriptor.platform.as_ref().map(ToString::to_string))
        .filter(|platform| platform != "unknown/unknown")
        .collect();
    let is_usable = |descriptor: &Descriptor| {
        let is_manifest =
            descriptor.media_type.is_empty() || form_by_type(&descriptor.media_type).is_some();
        is_manifest && descriptor.platform.as_ref().is_some_and(|offered| platform.can_run(offered))
    };
    // The most specific one that this machine can run.
    manifests
        .into_iter()
        .filter(is_usable)
        .rev()
        .max_by_key(|descriptor| {
            descriptor.platform.as_ref().map_or(0, |offered| platform.rank(offered))
        })
        .ok_or_else(|| ManifestError::NoPlatform {
            wanted: platform.to_string(),
            found: found.join(", "),
        })
}

fn image(raw: Raw) -> Result<ImageManifest, ManifestError> {
    let malformed = |problem: &str| ManifestError::Malformed(problem.to_owned());
    let config = raw.config.ok_or_else(|| malformed("it has no configuration"))?;
    let layers = raw.layers.unwrap_or_default();
    match config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => {}
        other => {
            let what = format!(
                "an artifact that is no image (configuration of type \"{}\")",
                other.escape_default()
            );
            return Err(ManifestError::Unsupported(what));
        }
    }
    if config.size > LARGEST_CONFIG {
        return Err(malformed("a configuration larger than 8 MiB"));
    }
    if layers.len() > MOST_LAYERS {
        return Err(ManifestError::Malformed(format!("more than {MOST_LAYERS} layers")));
    }
    if let Some(layer) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        let what = format!("a layer of type \"{}\"", layer.media_type.escape_default());
        return Err(ManifestError::Unsupported(what));
    }
    Ok(ImageManifest { config, layers })
}

/// Which compression it is, the stream itself says.
fn is_layer(media_type: &str) -> bool {
    let base = media_type
        .strip_suffix("+gzip")
        .or_else(|| media_type.strip_suffix("+zstd"))
        .or_else(|| media_type.strip_suffix(".gzip"))
        .or_else(|| media_type.strip_suffix(".zstd"))
        .unwrap_or(media_type);
    matches!(
        base,
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
    )
}

/// The type without parameters.
fn base_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests;
