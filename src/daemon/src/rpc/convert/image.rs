//! Images.

use super::fields::{filled, present};
use cringle_domain::image::{Image, ImageUser, Retention};
use cringle_domain::refusal::Refusal;
use cringle_image::registry::{AuthParts, Credentials};
use cringle_proto_cri::v1;

/// The id, digest or name in a request about one image.
pub(in crate::rpc) fn image_text(spec: Option<v1::ImageSpec>) -> Result<String, Refusal> {
    filled(present(spec, "image")?.image, "image.image")
}

/// The same in a request that may be about all: none then.
pub(in crate::rpc) fn image_filter(filter: Option<v1::ImageFilter>) -> Option<String> {
    filter?.image.map(|spec| spec.image).filter(|text| !text.is_empty())
}

/// What to pull, and for which runtime handler.
pub(in crate::rpc) fn pulled_image(
    spec: Option<v1::ImageSpec>,
) -> Result<(String, String), Refusal> {
    let spec = present(spec, "image")?;
    Ok((filled(spec.image, "image.image")?, spec.runtime_handler))
}

/// How to prove who pulls; nothing if there is nothing to prove it with.
pub(in crate::rpc) fn credentials(
    auth: Option<v1::AuthConfig>,
) -> Result<Option<Credentials>, Refusal> {
    let Some(auth) = auth else { return Ok(None) };
    let parts = AuthParts {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    };
    Credentials::from_parts(parts).map_err(|error| Refusal::invalid("auth", error.to_string()))
}

/// An image in an answer.
pub(in crate::rpc) fn image_item(image: &Image) -> v1::Image {
    let (uid, username) = match image.record.config.image_user() {
        ImageUser::Unset => (None, String::new()),
        ImageUser::Id(uid) => (Some(v1::Int64Value { value: i64::from(uid) }), String::new()),
        ImageUser::Name(name) => (None, name),
    };
    v1::Image {
        id: image.record.id.to_string(),
        repo_tags: image.tags.iter().map(ToString::to_string).collect(),
        repo_digests: image.digests.iter().map(ToString::to_string).collect(),
        size: image.record.size,
        uid,
        username,
        spec: None,
        pinned: image.retention == Retention::Pinned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cringle_domain::image::{ImageConfig, ImageRecord};
    use std::sync::Arc;

    fn image(user: &str) -> Image {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64)).parse().unwrap();
        let config = ImageConfig { user: user.to_owned(), ..ImageConfig::default() };
        let record = ImageRecord {
            id: digest("1"),
            manifest: digest("2"),
            layers: Vec::new(),
            size: 9,
            config,
        };
        Image {
            record: Arc::new(record),
            tags: vec!["busybox".parse().unwrap()],
            digests: Vec::new(),
            retention: Retention::Pinned,
        }
    }

    #[test]
    fn an_image_is_shown_with_its_names_and_its_user() {
        let shown = image_item(&image(""));
        assert_eq!(shown.id, format!("sha256:{}", "1".repeat(64)));
        assert_eq!(shown.repo_tags, ["docker.io/library/busybox:latest"]);
        assert_eq!((shown.size, shown.pinned, shown.uid), (9, true, None));
        let numbered = image_item(&image("1002:7"));
        assert_eq!((numbered.uid.unwrap().value, numbered.username.as_str()), (1002, ""));
        let named = image_item(&image("www-data"));
        assert_eq!((named.uid, named.username.as_str()), (None, "www-data"));
    }

    #[test]
    fn an_image_must_be_named() {
        image_text(None).unwrap_err();
        image_text(Some(v1::ImageSpec::default())).unwrap_err();
        assert_eq!(image_filter(None), None);
        let everything = v1::ImageFilter { image: Some(v1::ImageSpec::default()) };
        assert_eq!(image_filter(Some(everything)), None);
    }

    #[test]
    fn malformed_credentials_are_refused_without_being_shown() {
        let auth = v1::AuthConfig { auth: "canary".to_owned(), ..v1::AuthConfig::default() };
        let Err(refusal) = credentials(Some(auth)) else { panic!("taken") };
        assert!(!refusal.to_string().contains("canary"), "{refusal}");
        assert!(credentials(None).unwrap().is_none());
        assert!(credentials(Some(v1::AuthConfig::default())).unwrap().is_none());
    }
}
