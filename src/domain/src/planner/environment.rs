//! The environment: the daemon's defaults, then the image's variables, then the request's; nothing of the daemon's own.

use crate::image::ImageConfig;
use crate::plan::Environment;
use crate::refusal::Refusal;
use crate::spec::{ContainerSpec, Terminal};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn plan(
    spec: &ContainerSpec,
    image: &ImageConfig,
    hostname: &str,
    home: &str,
) -> Result<Environment, Refusal> {
    let asked = spec
        .environment
        .iter()
        .map(|(name, value)| variable(name, value))
        .collect::<Result<Vec<_>, _>>()?;
    // The pod's name stands before the image's variables: an image that sets HOSTNAME was built in another container.
    let hostname = ("HOSTNAME".to_owned(), hostname.to_owned());
    let of_image = image.env.iter().filter_map(|entry| image_variable(entry));
    let of_image = of_image.filter(|(name, _)| name != "HOSTNAME");
    let mut environment: Environment =
        std::iter::once(hostname).chain(of_image).chain(asked).collect();
    environment.set_default("PATH", PATH);
    environment.set_default("HOME", home);
    if spec.terminal == Terminal::Present {
        // Programs on a terminal want to know its kind; ours is whatever the client has, and all clients know this one.
        environment.set_default("TERM", "xterm");
    }
    Ok(environment)
}

/// A variable of the request.
fn variable(name: &str, value: &[u8]) -> Result<(String, String), Refusal> {
    let refuse = |problem: &str| {
        let shown: String = name.chars().take(256).collect();
        Err(Refusal::invalid("envs", format!("{shown:?} {problem}")))
    };
    if name.is_empty() || name.contains(['=', '\0']) {
        return refuse("is not the name of a variable");
    }
    match std::str::from_utf8(value) {
        Ok(value) if value.contains('\0') => refuse("has a value with NUL"),
        Ok(value) => Ok((name.to_owned(), value.to_owned())),
        // A runtime spec is JSON and cannot carry it.
        Err(_) => refuse("has a value that is not UTF-8"),
    }
}

/// A variable of the image. An entry that is none (no `=`, no name) is left out: no program could read it, and it must never
/// be taken for the name of a variable of ours (CVE-2026-57231).
fn image_variable(entry: &str) -> Option<(String, String)> {
    let (name, value) = entry.split_once('=')?;
    let usable = !name.is_empty() && !entry.contains('\0');
    usable.then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, image};
    use super::*;

    fn entries(environment: &Environment) -> Vec<String> {
        environment.entries().collect()
    }

    fn asked(pairs: &[(&str, &[u8])]) -> ContainerSpec {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        ContainerSpec { environment, ..container() }
    }

    #[test]
    fn the_request_overrides_the_image_in_its_place() {
        let image =
            ImageConfig { env: vec!["A=1".into(), "PATH=/x".into(), "B=2".into()], ..image() };
        let environment =
            plan(&asked(&[("B", b"3"), ("C", b"a=b")]), &image, "pod", "/root").unwrap();
        assert_eq!(
            entries(&environment),
            ["HOSTNAME=pod", "A=1", "PATH=/x", "B=3", "C=a=b", "HOME=/root"]
        );
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let environment = plan(&asked(&[]), &image(), "pod", "/").unwrap();
        assert_eq!(entries(&environment), ["HOSTNAME=pod", &format!("PATH={PATH}"), "HOME=/"]);
        let terminal = ContainerSpec { terminal: Terminal::Present, ..container() };
        let environment = plan(&terminal, &image(), "pod", "/").unwrap();
        assert_eq!(environment.value("TERM"), Some("xterm"));
        let own = ContainerSpec {
            terminal: Terminal::Present,
            ..asked(&[("TERM", b"dumb"), ("HOSTNAME", b"mine")])
        };
        let environment = plan(&own, &image(), "pod", "/").unwrap();
        assert_eq!(environment.value("TERM"), Some("dumb"));
        assert_eq!(environment.value("HOSTNAME"), Some("mine"));
    }

    #[test]
    fn nothing_of_an_image_brings_in_a_variable_of_the_daemon() {
        let env = ["*", "PATH", "=x", "A=B=C", "", "HOSTNAME=build", "N=a\0b"]
            .map(str::to_owned)
            .to_vec();
        let environment = plan(&asked(&[]), &ImageConfig { env, ..image() }, "pod", "/").unwrap();
        assert_eq!(
            entries(&environment),
            ["HOSTNAME=pod", "A=B=C", &format!("PATH={PATH}"), "HOME=/"]
        );
    }

    #[test]
    fn a_variable_of_the_request_must_be_one() {
        for (name, value) in
            [("", &b"x"[..]), ("A=B", b"x"), ("A\0", b"x"), ("A", b"x\0y"), ("A", b"\xff\xfe")]
        {
            assert!(
                plan(&asked(&[(name, value)]), &image(), "pod", "/").is_err(),
                "{name:?} {value:?}"
            );
        }
        plan(&asked(&[("A b.c-d", b"\n"), ("E", b"")]), &image(), "pod", "/").unwrap();
    }
}
