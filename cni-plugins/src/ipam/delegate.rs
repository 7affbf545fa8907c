//! Running a foreign plugin for addresses, with the environment and the configuration of the call it is for.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;

use crate::plugin::{Call, Command};
use crate::spec::Error;
use crate::spec::error::{INPUT_OUTPUT, TRY_AGAIN_LATER};

/// How long a plugin may take: a runtime waits longer than that for the whole chain.
const PATIENCE: Duration = Duration::from_secs(90);
/// More than this is no answer.
const ANSWER_LENGTH: usize = 1 << 20;
/// How often a program that is being replaced is tried again, and after how long.
const BUSY_ATTEMPTS: usize = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Runs the program and gives what it wrote on its standard output.
pub(super) fn run(program: &Path, command: Command, call: &Call<'_>) -> Result<String, Error> {
    let failed = |cause: std::io::Error| {
        Error::with_details(
            INPUT_OUTPUT,
            format!("failed to run ipam plugin {program:?}"),
            cause.to_string(),
        )
    };
    let mut child = spawn(program, command, call).map_err(failed)?;
    let output = read(&mut child, Instant::now() + PATIENCE);
    let Ok(output) = output else {
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        return Err(Error::new(
            TRY_AGAIN_LATER,
            format!("ipam plugin {program:?} gave no answer in time"),
        ));
    };
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&output).into_owned());
    }
    Err(Error::parse(&output).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&output);
        Error::with_details(
            INPUT_OUTPUT,
            format!("ipam plugin {program:?} failed with {status}"),
            text.trim(),
        )
    }))
}

fn spawn(program: &Path, command: Command, call: &Call<'_>) -> std::io::Result<Child> {
    let request = call.request;
    let path = std::env::join_paths(&request.path).unwrap_or_default();
    for _ in 0..BUSY_ATTEMPTS {
        let spawned = Process::new(program)
            .env("CNI_COMMAND", command.as_str())
            .env("CNI_CONTAINERID", &request.container_id)
            .env("CNI_NETNS", request.netns.as_deref().unwrap_or(Path::new("")))
            .env("CNI_IFNAME", &request.if_name)
            .env("CNI_ARGS", &request.args)
            .env("CNI_PATH", &path)
            .stdin(configuration(call)?)
            .stdout(Stdio::piped())
            .spawn();
        match spawned {
            // Someone is writing the file this moment; nothing tells when that ends.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                pause(BUSY_PAUSE)?
            }
            outcome => return outcome,
        }
    }
    Err(std::io::ErrorKind::ExecutableFileBusy.into())
}

/// The configuration as a file, so that a plugin that doesn't read it can't make us wait.
fn configuration(call: &Call<'_>) -> std::io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("cni-config", MemfdFlags::CLOEXEC)?);
    file.write_all(call.config().as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn pause(time: Duration) -> std::io::Result<()> {
    let time = Timespec::try_from(time).map_err(std::io::Error::other)?;
    rustix::event::poll(&mut [], Some(&time))?;
    Ok(())
}

/// What the plugin writes until it closes its output; an error if that takes too long or is too much.
fn read(child: &mut Child, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let mut output = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .map_err(std::io::Error::other)?;
        let mut polled = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        if rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&left)))? == 0 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let length = stdout.read(&mut chunk)?;
        output.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if length == 0 {
            return Ok(output);
        }
        if output.len() > ANSWER_LENGTH {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;
    use crate::context::Context;
    use crate::plugin::{Request, run as run_plugin};
    use crate::testing::{Host, Pod, on_new_host};

    const CONFIG: &str =
        r#"{"cniVersion":"0.4.0","name":"n","type":"bridge","ipam":{"type":"foreign","x":1.50}}"#;

    /// Runs the bridge with a plugin for addresses that is this script.
    fn with_script(host: &mut Host, pod: &Pod, script: &str) -> Result<String, Error> {
        let path = host.root.path().join("foreign");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(path)
            .unwrap();
        file.write_all(script.as_bytes()).unwrap();
        drop(file);
        let request = Request { path: vec![host.root.path().into()], ..pod.request(CONFIG) };
        let result = run_plugin(Command::Add, "bridge", &request, &mut host.context)?.unwrap();
        Ok(result.ips[0].address.to_string())
    }

    #[test]
    fn a_foreign_plugin_gets_the_call_and_its_answer_counts() {
        on_new_host(|host| {
            let log = host.root.path().join("log");
            let script = format!(
                "#!/bin/sh\n(env | grep ^CNI_ | sort; cat) >> {}\n\
                 [ $CNI_COMMAND = ADD ] && echo '{{\"cniVersion\":\"0.4.0\",\"ips\":[{{\"version\":\"4\",\"address\":\"10.9.0.2/24\"}}]}}'\n\
                 exit 0\n",
                log.display()
            );
            let pod = Pod::new("c1");
            assert_eq!(with_script(host, &pod, &script).unwrap(), "10.9.0.2/24");
            let seen = std::fs::read_to_string(log).unwrap();
            for text in ["CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", CONFIG] {
                assert!(seen.contains(text), "{text}\n{seen}");
            }
        });
    }

    #[test]
    fn the_error_of_a_foreign_plugin_is_passed_on_and_the_bridge_rolls_back() {
        on_new_host(|host| {
            let pod = Pod::new("c1");
            let structured =
                "#!/bin/sh\necho '{\"code\":123,\"msg\":\"no\",\"details\":\"d\"}'; exit 1\n";
            let error = with_script(host, &pod, structured).unwrap_err();
            assert_eq!((error.code, error.to_string().as_str()), (123, "no: d"));
            let error = with_script(host, &pod, "#!/bin/sh\necho oh; exit 3\n").unwrap_err();
            assert!(
                error.msg.contains("failed with exit status: 3") && error.details == "oh",
                "{error}"
            );
            let error =
                with_script(host, &pod, "#!/bin/sh\nhead -c 2000000 /dev/zero\n").unwrap_err();
            assert_eq!(error.code, TRY_AGAIN_LATER);
            assert!(host.links_of("veth").is_empty());
        });
    }

    #[test]
    fn a_plugin_that_is_nowhere_is_a_mistake_in_the_configuration() {
        on_new_host(|_| {
            let pod = Pod::new("c1");
            let request = pod.request(CONFIG);
            let error =
                run_plugin(Command::Add, "bridge", &request, &mut Context::new()).unwrap_err();
            assert_eq!(error.code, 7);
        });
    }
}
