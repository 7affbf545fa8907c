//! The `HOME` of a process whose environment has none: what the container's own user database says, or `/`.

use std::ffi::CString;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// The most that is read of a user database, which is the image's: it may be of any size, or no file at all.
const MOST: usize = 1024 * 1024;

/// Child-side, inside the container: `HOME=…`, if the environment lacks it.
pub(super) fn missing(environment: &[CString], user: u32) -> Option<CString> {
    if environment.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
        return None;
    }
    let text = read(Path::new("/etc/passwd")).unwrap_or_default();
    let home = lookup(&text, user).filter(|home| home.starts_with(b"/")).unwrap_or(b"/");
    CString::new([b"HOME=", home].concat()).ok()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    // Without waiting, for it may be a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let status = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return None;
    }
    let size = usize::try_from(status.st_size).ok()?.min(MOST);
    let mut text = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = text.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(&file, rest) {
            Ok(0) | Err(_) => break,
            Ok(length) => filled += length,
        }
    }
    text.truncate(filled);
    Some(text)
}

/// The sixth field of the first line whose third is the user.
fn lookup(text: &[u8], user: u32) -> Option<&[u8]> {
    let number = user.to_string();
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        if fields.nth(2)? != number.as_bytes() {
            return None;
        }
        fields.nth(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_that_of_the_number_and_not_of_the_name() {
        let text =
            b"1000:x:1:1::/wrong:/bin/sh\nshort:x:1000\nuser:x:1000:1000:A B:/home/user:/bin/sh\n";
        assert_eq!(lookup(text, 1000), Some(&b"/home/user"[..]));
        assert_eq!(lookup(text, 7), None);
    }

    #[test]
    fn an_environment_with_a_home_keeps_it() {
        assert_eq!(missing(&[c"HOME=/x".into()], 0), None);
        assert!(
            missing(&[c"XHOME=/x".into()], 4_000_000_000).is_some_and(|home| *home == *c"HOME=/")
        );
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        assert_eq!(read(Path::new("/dev/zero")), None);
        assert_eq!(read(Path::new("/")), None);
    }
}
