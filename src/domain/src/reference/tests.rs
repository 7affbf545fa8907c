use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn short_names_are_completed() {
    let digest = format!("sha256:{HEX}");
    for (text, full) in [
        ("busybox", "docker.io/library/busybox:latest".to_owned()),
        ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
        ("user/app", "docker.io/user/app:latest".to_owned()),
        ("docker.io/busybox", "docker.io/library/busybox:latest".to_owned()),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest".to_owned()),
        ("localhost/app", "localhost/app:latest".to_owned()),
        ("localhost:5000/app", "localhost:5000/app:latest".to_owned()),
        ("127.0.0.1:5000/a/b/c:Tag_1.2-3", "127.0.0.1:5000/a/b/c:Tag_1.2-3".to_owned()),
        ("[::1]:5000/app", "[::1]:5000/app:latest".to_owned()),
        ("Host/app", "Host/app:latest".to_owned()),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".to_owned()),
        ("gcr.io/a/b_c/d__e/f--g/h.i", "gcr.io/a/b_c/d__e/f--g/h.i:latest".to_owned()),
        (&format!("busybox@{digest}"), format!("docker.io/library/busybox@{digest}")),
        (&format!("busybox:1@{digest}"), format!("docker.io/library/busybox@{digest}")),
    ] {
        let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.to_string(), full);
        assert_eq!(
            full.parse::<Reference>().as_ref(),
            Ok(&reference),
            "{full} is its own full name"
        );
    }
}

#[test]
fn malformed_names_are_refused() {
    for text in [
        "",
        ":",
        "@",
        "/",
        ":tag",
        "a:",
        "a/",
        "/a",
        "a//b",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a._b",
        "UPPER",
        "a:b:c",
        "a:-tag",
        "a:.tag",
        "a b",
        "a\nb",
        "ä",
        "a@sha256:",
        "a@sha256:abc",
        "a@md5:0123456789abcdef0123456789abcdef",
        "a@sha256:../../x",
        "host:port/a",
        "host:0/a",
        "host:+1/a",
        "host:99999/a",
        "-host.io/a",
        "host..io/a",
        "[::1/a",
        "[nonsense]/a",
        "../a",
        "a/../b",
        "http://a.io/b",
        HEX,
        &format!("a:{}", "t".repeat(129)),
        &"a/".repeat(200),
    ] {
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }
}

#[test]
fn digests_are_strict() {
    format!("sha256:{HEX}").parse::<Digest>().expect("a digest");
    format!("sha512:{HEX}{HEX}").parse::<Digest>().expect("a digest");
    for text in [
        "",
        "sha256",
        "sha256:",
        HEX,
        &format!("sha256:{}", HEX.to_uppercase()),
        &format!("sha256:{}", &HEX[1..]),
        &format!("sha256:{HEX}0"),
        &format!("sha512:{HEX}"),
        &format!("SHA256:{HEX}"),
        &format!("md5:{HEX}"),
        &format!(" sha256:{HEX}"),
        &format!("sha256:{HEX}\n"),
        "sha256:../../../../../../../../../../../../../../../../../etc/passwd0000",
        "sha256:٠١٢٣٤٥٦٧٨٩٠١٢٣٤٥٦٧٨٩٠١٢٣٤٥٦٧٨٩٠١",
        &format!("sha256:{}", "0".repeat(1 << 20)),
    ] {
        assert!(text.parse::<Digest>().is_err(), "{}", shortened(text));
    }
}

#[test]
fn a_digest_survives_its_file_name() {
    for text in [format!("sha256:{HEX}"), format!("sha512:{HEX}{HEX}")] {
        let digest: Digest = text.parse().expect("a digest");
        assert_eq!(Digest::from_file_name(&digest.file_name()), Some(digest));
    }
    assert_eq!(Digest::from_file_name("sha256-.."), None);
}

#[test]
fn a_digest_is_made_of_a_hash() {
    let digest = Digest::from_bytes(Algorithm::Sha256, &[0xa5; 32]).expect("32 bytes");
    assert_eq!(digest.to_string(), format!("sha256:{}", "a5".repeat(32)));
    Digest::from_bytes(Algorithm::Sha512, &[0; 32]).expect_err("too few bytes");
}

#[test]
fn an_id_prefix_matches_ids_that_begin_so() {
    let id: Digest = format!("sha256:{HEX}").parse().expect("a digest");
    for text in ["0", "0123", "sha256:0123", HEX, &format!("sha256:{HEX}")] {
        assert!(IdPrefix::parse(text).is_some_and(|prefix| prefix.matches(&id)), "{text}");
    }
    for text in ["1", "sha256:1"] {
        assert!(!IdPrefix::parse(text).is_some_and(|prefix| prefix.matches(&id)), "{text}");
    }
    for text in ["", "sha256:", "xyz", "ABC", &format!("{HEX}0")] {
        assert_eq!(IdPrefix::parse(text), None, "{text}");
    }
}

/// Texts made of the characters that matter never panic, and what parses is its own full name.
#[test]
fn whatever_parses_is_its_own_full_name() {
    let alphabet = b"aZ09._-:/@[]";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200_000 {
        let text: String = (0..(state >> 60))
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(alphabet[usize::try_from(state >> 32).unwrap_or(0) % alphabet.len()])
            })
            .collect();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if let Ok(reference) = text.parse::<Reference>() {
            assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference), "{text}");
        }
    }
}
