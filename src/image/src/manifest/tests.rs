use super::*;
use crate::digest;
use cringle_domain::reference::Algorithm;

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn amd64() -> Platform {
    Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: String::new() }
}

fn document(text: &str, content_type: Option<&str>) -> Document {
    Document {
        bytes: text.as_bytes().to_vec(),
        digest: digest::of(Algorithm::Sha256, text.as_bytes()),
        content_type: content_type.map(str::to_owned),
    }
}

fn digest_of(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

fn descriptor(media_type: &str, letter: char) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":7}}"#, digest_of(letter))
}

fn image(layer_type: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", 'c'),
        descriptor(layer_type, 'd'),
    )
}

fn index(platforms: &[(&str, &str, &str)]) -> String {
    let manifests: Vec<String> = platforms
        .iter()
        .zip('a'..='f')
        .map(|((os, architecture, variant), letter)| {
            format!(
                r#"{{"mediaType":"{OCI_IMAGE}","digest":"{}","size":7,
                "platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}}}"#,
                digest_of(letter)
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        manifests.join(",")
    )
}

fn parse(
    text: &str,
    content_type: Option<&str>,
    expected: Option<&str>,
) -> Result<Manifest, ManifestError> {
    Manifest::parse(&document(text, content_type), expected, &amd64())
}

#[test]
fn an_image_is_read_with_its_layers() {
    for layer in [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ] {
        let manifest = parse(&image(layer), Some(OCI_IMAGE), Some(OCI_IMAGE)).expect(layer);
        let Manifest::Image(manifest) = manifest else { panic!("{layer} made an index") };
        assert_eq!(manifest.layers.len(), 1);
    }
}

#[test]
fn an_index_gives_the_image_for_this_machine() {
    let text =
        index(&[("linux", "arm64", "v8"), ("unknown", "unknown", ""), ("linux", "amd64", "")]);
    let Ok(Manifest::Index(chosen)) = parse(&text, Some(OCI_INDEX), None) else {
        panic!("no image chosen")
    };
    assert_eq!(chosen.digest.to_string(), digest_of('c'));
}

#[test]
fn an_index_without_an_image_for_this_machine_names_those_it_has() {
    let text =
        index(&[("linux", "arm64", "v8"), ("unknown", "unknown", ""), ("linux", "s390x", "")]);
    let error = parse(&text, Some(OCI_INDEX), None).expect_err("no platform");
    assert_eq!(error.to_string(), "no image for linux/amd64, only for linux/arm64/v8, linux/s390x");
}

#[test]
fn a_document_that_can_be_read_in_two_ways_is_refused() {
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let both = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","config":{},"layers":[],"manifests":[]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", 'c')
    );
    let untyped =
        image(layer).replace(&format!(r#""mediaType":"{OCI_IMAGE}","config""#), r#""config""#);
    let twice = image(layer).replacen(r#""layers""#, r#""layers":[],"layers""#, 1);
    for (case, text, content_type, expected) in [
        ("index and image", both.as_str(), None, None),
        ("sent as an index", &image(layer), Some(OCI_INDEX), None),
        ("sent as Docker's", &image(layer), Some(DOCKER_IMAGE), None),
        ("another type in the descriptor", &image(layer), Some(OCI_IMAGE), Some(DOCKER_IMAGE)),
        ("no type at all", &untyped, None, None),
        ("untyped and sent as an index", &untyped, Some(OCI_INDEX), None),
        ("a key twice", &twice, Some(OCI_IMAGE), None),
        ("trailing data", &format!("{} {{}}", image(layer)), Some(OCI_IMAGE), None),
        ("no version", &image(layer).replace(r#""schemaVersion":2,"#, ""), None, None),
        ("a path as digest", &image(layer).replace(&digest_of('d'), "sha256:../../x"), None, None),
        ("a negative size", &image(layer).replace(r#""size":7"#, r#""size":-7"#), None, None),
        ("null", "null", Some(OCI_IMAGE), None),
        ("nothing", "", Some(OCI_IMAGE), None),
    ] {
        let result = parse(text, content_type, expected);
        assert!(matches!(result, Err(ManifestError::Malformed(_))), "{case}: {result:?}");
    }
    parse(&untyped, Some(&format!("{OCI_IMAGE}; charset=utf-8")), None)
        .expect("typed by the registry");
    parse(&image(layer), Some("application/json"), None).expect("typed by itself");
}

#[test]
fn what_is_no_image_is_named_as_unsupported() {
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let artifact = image(layer).replace("vnd.oci.image.config.v1", "vnd.example.thing.v1");
    for (case, text) in [
        ("schema 1", r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()),
        ("an artifact", artifact),
        ("an encrypted layer", image("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")),
        ("a foreign type", image(layer).replace(OCI_IMAGE, "application/vnd.example+json")),
    ] {
        let result = parse(&text, None, None);
        assert!(matches!(result, Err(ManifestError::Unsupported(_))), "{case}: {result:?}");
    }
}

#[test]
fn counts_are_capped() {
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", 'd');
    let many = vec![layer.as_str(); MOST_LAYERS + 1].join(",");
    let text = image("application/vnd.oci.image.layer.v1.tar").replace(&layer, &many);
    parse(&text, None, None).expect_err("too many layers");
    let entry = descriptor(OCI_IMAGE, 'd');
    let many = vec![entry.as_str(); MOST_MANIFESTS + 1].join(",");
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{many}]}}"#);
    assert!(matches!(parse(&text, None, None), Err(ManifestError::Malformed(_))));
}
