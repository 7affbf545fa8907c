//! What runs, and where: the request's command and arguments over the image's.

use crate::image::ImageConfig;
use crate::mounts;
use crate::refusal::Refusal;
use crate::spec::ContainerSpec;
use std::path::{Path, PathBuf};

/// A command of the request replaces entry point and arguments of the image; arguments of the request replace the image's.
pub(super) fn args(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, Refusal> {
    let (program, rest) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.command, &spec.args),
        (true, false) => (&image.entrypoint, &spec.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    command_line(program.iter().chain(rest).cloned().collect(), "command")
}

/// A command line that execve(2) can take; `field` is where the request has it.
///
/// # Errors
/// Invalid, when it is empty or contains NUL.
pub fn command_line(args: Vec<String>, field: &str) -> Result<Vec<String>, Refusal> {
    match args.first() {
        None => Err(Refusal::invalid(
            field,
            "there is no command, neither in the request nor in the image",
        )),
        Some(program) if program.is_empty() => {
            Err(Refusal::invalid(field, "the program's name is empty"))
        }
        Some(_) if args.iter().any(|arg| arg.contains('\0')) => {
            Err(Refusal::invalid(field, "an argument contains NUL"))
        }
        Some(_) => Ok(args),
    }
}

/// The request's directory, else the image's, else the root; a relative one starts at the root.
pub(super) fn working_directory(
    spec: &ContainerSpec,
    image: &ImageConfig,
) -> Result<PathBuf, Refusal> {
    let given = if spec.working_dir.is_empty() { &image.working_dir } else { &spec.working_dir };
    let path = mounts::clean(&Path::new("/").join(given))
        .map_err(|error| Refusal::invalid("working_dir", error.to_string()))?;
    // An open descriptor is no place in the container; the directory behind it may be outside (CVE-2024-21626).
    if is_descriptor(&path) {
        return Err(Refusal::invalid("working_dir", format!("{path:?} is an open descriptor")));
    }
    Ok(path)
}

fn is_descriptor(path: &Path) -> bool {
    let in_procfs = path.starts_with("/proc")
        && path
            .components()
            .any(|component| matches!(component.as_os_str().to_str(), Some("fd" | "cwd" | "root")));
    in_procfs || path.starts_with("/dev/fd")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, image};
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_request_replaces_the_image_as_kubernetes_says() {
        for (entrypoint, cmd, command, args, expected) in [
            ("ep", "cmd", "", "", "ep cmd"),
            ("ep", "cmd", "", "a", "ep a"),
            ("ep", "cmd", "c", "", "c"),
            ("ep", "cmd", "c", "a b", "c a b"),
            ("", "cmd x", "", "", "cmd x"),
            ("", "cmd", "", "a", "a"),
            ("ep e2", "", "", "", "ep e2"),
        ] {
            let image = ImageConfig { entrypoint: words(entrypoint), cmd: words(cmd), ..image() };
            let spec = ContainerSpec { command: words(command), args: words(args), ..container() };
            assert_eq!(
                super::args(&spec, &image),
                Ok(words(expected)),
                "{entrypoint}|{cmd}|{command}|{args}"
            );
        }
    }

    #[test]
    fn there_must_be_a_command() {
        let image = ImageConfig { entrypoint: vec![], cmd: vec![], ..image() };
        let without = ContainerSpec { command: vec![], args: vec![], ..container() };
        args(&without, &image).unwrap_err();
        for command in [vec![String::new()], words("a\0b")] {
            let spec = ContainerSpec { command, ..container() };
            assert!(args(&spec, &image).is_err(), "{:?}", spec.command);
        }
    }

    #[test]
    fn the_working_directory_is_inside_the_container() {
        for (request, image_dir, expected) in [
            ("", "", "/"),
            ("", "/app", "/app"),
            ("/x/../y", "/app", "/y"),
            ("", "app", "/app"),
            ("/../..", "", "/"),
        ] {
            let image = ImageConfig { working_dir: image_dir.to_owned(), ..image() };
            let spec = ContainerSpec { working_dir: request.to_owned(), ..container() };
            assert_eq!(
                working_directory(&spec, &image),
                Ok(PathBuf::from(expected)),
                "{request}|{image_dir}"
            );
        }
    }

    #[test]
    fn an_open_descriptor_is_no_working_directory() {
        for path in [
            "/proc/self/fd/7",
            "/proc/1/fd/3/../4",
            "/proc/thread-self/fd/9",
            "/dev/fd/8",
            "/x/../proc/self/fd/8",
            "/proc/self/cwd",
            "/proc/1/root",
        ] {
            let spec = ContainerSpec { working_dir: path.to_owned(), ..container() };
            assert!(working_directory(&spec, &image()).is_err(), "{path}");
        }
    }
}
