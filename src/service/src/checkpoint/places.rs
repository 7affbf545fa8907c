//! Where a client may have a checkpoint written.

use cringle_domain::refusal::Refusal;
use std::path::{Component, PathBuf};

/// A path at which a file can be made.
///
/// # Errors
/// Invalid: it is relative, a directory, or in none.
pub(crate) fn file_place(text: &str) -> Result<PathBuf, Refusal> {
    let refuse = |problem: &str| Refusal::invalid("location", format!("\"{text}\" {problem}"));
    let path = PathBuf::from(text);
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) || text.contains('\0') {
        return Err(refuse("is not an absolute path without \"..\""));
    }
    if text.ends_with('/') || path.is_dir() {
        return Err(refuse("is a directory, not a file"));
    }
    if path.parent().is_none_or(|parent| !parent.is_dir()) {
        return Err(refuse("is in no directory that is there"));
    }
    Ok(path)
}

/// An absolute path, of no link, to a directory with nothing in it.
///
/// # Errors
/// Invalid: it is none.
pub(crate) fn empty_directory(text: &str) -> Result<PathBuf, Refusal> {
    const FIELD: &str = "output_path";
    let refuse = |problem: &str| Refusal::invalid(FIELD, format!("\"{text}\" {problem}"));
    let path = existing_directory(FIELD, text)?;
    match path.read_dir().map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(path),
        Ok(false) => Err(refuse("is not empty")),
        Err(error) => Err(refuse(&format!("cannot be listed: {error}"))),
    }
}

/// An absolute path, of no link, to a directory.
///
/// # Errors
/// Invalid: it is none.
pub(crate) fn existing_directory(field: &str, text: &str) -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(text);
    let resolved = path.canonicalize().ok().filter(|found| path.is_absolute() && found.is_dir());
    // A trailing slash is no other directory.
    if resolved.as_ref() != Some(&path.components().collect::<PathBuf>()) {
        let problem = format!("\"{text}\" is not an absolute path of a directory, without links");
        return Err(Refusal::invalid(field, problem));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_an_absolute_path_of_a_file_in_a_directory() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        file_place(&at("a.tar")).unwrap();
        std::fs::File::create(at("there.tar")).unwrap();
        file_place(&at("there.tar")).unwrap();
        for wrong in
            ["", "a.tar", "/", &at(""), &at("none/a.tar"), &at("../a.tar"), &at("a.tar/"), "/a\0b"]
        {
            let refused = file_place(wrong).unwrap_err();
            assert!(matches!(refused, Refusal::Invalid { .. }), "{wrong:?}: {refused}");
        }
    }

    #[test]
    fn only_an_empty_directory_without_links_is_written_to() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        for name in ["empty", "full/one"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::File::create(at("file")).unwrap();
        std::os::unix::fs::symlink("empty", at("link")).unwrap();
        empty_directory(&at("empty")).unwrap();
        empty_directory(&at("empty/")).unwrap();
        for wrong in [
            "",
            "empty",
            "none",
            &at("none"),
            &at("full"),
            &at("file"),
            &at("link"),
            &at("full/../empty"),
        ] {
            let refused = empty_directory(wrong).unwrap_err();
            assert!(matches!(refused, Refusal::Invalid { .. }), "{wrong:?}: {refused}");
        }
    }
}
