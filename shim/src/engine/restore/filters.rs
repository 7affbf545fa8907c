//! The system call filters in a checkpoint's images: which ones the processes will have.
//!
//! What a filter lets through can't be asked of a process afterwards, only that it has one. So the images are read before:
//! whatever chain of filters a process gets, the first of it must be, byte for byte, that of the specification. What comes on
//! top of it can only take away.

use std::path::Path;

use cringle_kernel::seccomp::Filter;

use super::super::error::{EngineError, Result};
use super::wire::{Value, fields, message};

/// The file among the images; a checkpoint of processes without filters has none.
const FILE: &str = "seccomp.img";
/// Larger ones are none: thousands of filters.
const LARGEST: u64 = 64 << 20;

/// Makes sure that processes which have filters have this one.
///
/// # Errors
/// They would not have it, or the images make no sense.
pub(super) fn require(images: &Path, wanted: Option<&Filter>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let path = images.join(FILE);
    let refuse =
        |problem: &str| EngineError::Restore(format!("{FILE} of the checkpoint {problem}"));
    let size = path.symlink_metadata().map(|found| found.len());
    if size.is_ok_and(|size| size > LARGEST) {
        return Err(refuse("is too large"));
    }
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Then they have no filter, which is seen of them.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(EngineError::Read { path, source }),
    };
    judge(&text, wanted).map_err(refuse)
}

fn judge(text: &[u8], wanted: &Filter) -> std::result::Result<(), &'static str> {
    const NONSENSE: &str = "makes no sense";
    let filters = filters(text).ok_or(NONSENSE)?;
    let code = wanted.code();
    for (place, filter) in filters.iter().enumerate() {
        match filter.before {
            // Only backwards: a chain has an end then, which is the first filter of a process.
            Some(before) if usize::try_from(before).is_ok_and(|before| before < place) => {}
            Some(_) => return Err(NONSENSE),
            None if filter.code == code => {}
            None => return Err("has another filter of system calls than is asked for"),
        }
    }
    Ok(())
}

/// One filter.
#[derive(Debug, Default)]
struct Loaded<'a> {
    code: &'a [u8],
    /// The place of the one that was loaded before it.
    before: Option<u64>,
}

fn filters(text: &[u8]) -> Option<Vec<Loaded<'_>>> {
    let fields = fields(message(text)?)?;
    fields.into_iter().filter(|(number, _)| *number == 1).map(|(_, value)| loaded(value)).collect()
}

fn loaded(value: Value<'_>) -> Option<Loaded<'_>> {
    let Value::Bytes(message) = value else { return None };
    let mut filter = Loaded::default();
    for (number, value) in fields(message)? {
        match (number, value) {
            (1, Value::Bytes(code)) => filter.code = code,
            (2, Value::Number(before)) => filter.before = Some(before),
            (1 | 2, _) => return None,
            (_, _) => {}
        }
    }
    Some(filter)
}

#[cfg(test)]
mod tests {
    use super::super::wire::Message;
    use super::*;
    use cringle_kernel::seccomp::{Profile, Verdict, compile};

    fn filter(default: Verdict) -> Filter {
        let (architectures, rules, flags) = (Vec::new(), Vec::new(), Vec::new());
        compile(&Profile { default, architectures, rules, flags }).unwrap().filter
    }

    fn image(entries: &[(&Filter, Option<u64>)]) -> Vec<u8> {
        let mut message = Message::default();
        for (filter, before) in entries {
            let mut entry = Message::default();
            entry.bytes(1, &filter.code());
            before.iter().for_each(|before| entry.number(2, *before));
            message.bytes(1, &entry.image([0; 8])[12..]);
        }
        message.image([7; 8])
    }

    #[test]
    fn the_first_filter_of_each_process_must_be_the_one_asked_for() {
        let (wanted, lax) = (filter(Verdict::KillProcess), filter(Verdict::Allow));
        for (entries, fits) in [
            (vec![(&wanted, None)], true),
            (vec![(&wanted, None), (&lax, Some(0))], true),
            (vec![(&lax, None)], false),
            (vec![(&wanted, None), (&lax, None)], false),
            (vec![(&lax, Some(0))], false),
            (vec![(&lax, Some(1)), (&wanted, None)], false),
        ] {
            let text = image(&entries);
            assert_eq!(judge(&text, &wanted).is_ok(), fits, "{entries:?}");
        }
    }

    #[test]
    fn images_of_any_bytes_are_refused_and_no_panic() {
        let wanted = filter(Verdict::KillProcess);
        let whole = image(&[(&wanted, None)]);
        for length in 0..whole.len() {
            judge(&whole[..length], &wanted).unwrap_err();
        }
        judge(&[whole.as_slice(), b"x"].concat(), &wanted).unwrap_err();
        judge(&[0xff; 100], &wanted).unwrap_err();
    }
}
