//! Programs that a test writes and that somebody executes at once.

use anyhow::{Context, Result, ensure};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program, replacing what was there.
///
/// Another process does it. A file that this one has open for writing is open in whatever another thread forks meanwhile, and
/// until that has executed its own program nobody can execute the file ("Text file busy").
pub fn write(path: &Path, text: &str) -> Result<()> {
    const STEPS: &str = "cat >\"$0\" && chmod 755 \"$0\" && mv \"$0\" \"$1\"";
    let draft = path.with_extension("draft");
    let mut writer = Command::new("sh")
        .args(["-c", STEPS])
        .args([&draft, path])
        .stdin(Stdio::piped())
        .spawn()?;
    writer.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let status = writer.wait()?;
    ensure!(status.success(), "writing \"{}\" ended with {status}", path.display());
    Ok(())
}
