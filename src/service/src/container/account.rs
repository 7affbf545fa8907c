//! The image's account files, read through a mount of its layers that is attached nowhere and dies with its descriptor.
//! They are foreign: resolved inside the image, plain files only, with a cap (CVE-2025-4437, CVE-2026-47262).

use crate::ServiceError;
use cringle_domain::refusal::Refusal;
use cringle_kernel::error::Result as KernelResult;
use cringle_kernel::mount::{self, Attributes, Parameter};
use cringle_kernel::path::Root;
use rustix::fs::{FileType, OFlags};
use std::ffi::CString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The largest account file that is read.
const FILE_LIMIT: u64 = 10 << 20;

/// The content of /etc/passwd and /etc/group; absent if the image has none.
#[derive(Debug, Default)]
pub(super) struct AccountFiles {
    pub(super) passwd: Option<String>,
    pub(super) group: Option<String>,
}

/// Reads them from an image whose layers are `lower`, the topmost first.
pub(super) fn read(lower: &[PathBuf]) -> Result<AccountFiles, ServiceError> {
    let root = view(lower).map_err(|source| ServiceError::kernel("look into the image", source))?;
    Ok(AccountFiles {
        passwd: content(&root, "/etc/passwd")?,
        group: content(&root, "/etc/group")?,
    })
}

/// The layers as one tree, read-only.
pub(super) fn view(lower: &[PathBuf]) -> KernelResult<Root> {
    match lower {
        [] => Root::open(Path::new("/var/empty")),
        // An overlay wants at least two layers if it has no upper one.
        [only] => Root::open(only),
        many => {
            let parameters: Vec<Parameter> =
                many.iter().filter_map(|layer| lower_layer(layer)).collect();
            let attributes =
                Attributes::READ_ONLY.with(Attributes::NO_DEVICES).with(Attributes::NO_SET_ID);
            Ok(Root::from_descriptor(mount::filesystem(c"overlay", &parameters, attributes)?))
        }
    }
}

/// Our own paths hold no NUL.
fn lower_layer(layer: &Path) -> Option<Parameter> {
    let value = CString::new(layer.as_os_str().as_bytes()).ok()?;
    Some(Parameter { key: c"lowerdir+".to_owned(), value: Some(value) })
}

fn content(root: &Root, path: &'static str) -> Result<Option<String>, ServiceError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let descriptor = match root.file(Path::new(path), flags) {
        Ok(descriptor) => descriptor,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(ServiceError::kernel(format!("open the image's {path}"), source));
        }
    };
    let unusable = |problem: &str| Refusal::invalid("image", format!("its {path} {problem}"));
    let found = rustix::fs::fstat(&descriptor)
        .map_err(|errno| ServiceError::file("look at the image's", path, errno.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(unusable("is no plain file").into());
    }
    let mut content = Vec::new();
    std::fs::File::from(descriptor)
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut content)
        .map_err(|source| ServiceError::file("read the image's", path, source))?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(unusable("is larger than 10 MiB").into());
    }
    // Names that are no text cannot be asked for; the rest of the file still counts.
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::io::Write::write_all(
                &mut std::fs::File::create(path).unwrap(),
                content.as_bytes(),
            )
            .unwrap();
        }
        directory
    }

    #[test]
    fn the_topmost_layer_wins_and_what_is_missing_is_absent() {
        let (top, base) = (layer(&[("etc/passwd", "top")]), layer(&[("etc/passwd", "base")]));
        let lower = [top.path().to_owned(), base.path().to_owned()];
        let files = read(&lower).unwrap();
        assert_eq!(files.passwd.as_deref(), Some("top"));
        assert!(files.group.is_none());
    }

    #[test]
    fn a_link_stays_in_the_image_and_a_pipe_is_refused_at_once() {
        let one = layer(&[("etc/shadow-of-passwd", "inside")]);
        std::os::unix::fs::symlink("/etc/shadow-of-passwd", one.path().join("etc/passwd")).unwrap();
        assert_eq!(read(&[one.path().to_owned()]).unwrap().passwd.as_deref(), Some("inside"));
        let fifo = one.path().join("etc/group");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = read(&[one.path().to_owned()]).unwrap_err();
        assert!(matches!(error, ServiceError::Refused(_)), "{error}");
    }

    #[test]
    fn a_file_over_the_cap_is_refused() {
        let one = layer(&[("etc/passwd", "")]);
        let file =
            std::fs::OpenOptions::new().write(true).open(one.path().join("etc/passwd")).unwrap();
        file.set_len(8 << 30).unwrap();
        assert!(matches!(read(&[one.path().to_owned()]).unwrap_err(), ServiceError::Refused(_)));
    }
}
