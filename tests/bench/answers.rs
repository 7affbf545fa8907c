//! Floors of calls that only tell: what it takes to carry so many bytes over a Unix socket, and to read so many cgroup files.

use crate::sample::Samples;
use anyhow::{Context, Result};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::time::Instant;

/// A byte there, the whole answer back, between two threads.
pub(crate) fn round_trips(samples: usize, bytes: usize) -> Result<Samples> {
    let (mut client, mut server) = UnixStream::pair()?;
    let answering = std::thread::spawn(move || -> std::io::Result<()> {
        let answer = vec![0; bytes];
        let mut question = [0];
        while server.read(&mut question)? == 1 {
            server.write_all(&answer)?;
        }
        Ok(())
    });
    let mut answer = vec![0; bytes];
    let mut taken = Samples::default();
    for _ in 0..samples {
        let begin = Instant::now();
        client.write_all(&[1])?;
        client.read_exact(&mut answer)?;
        taken.push(begin.elapsed());
    }
    drop(client);
    answering.join().ok().context("the answering thread panicked")??;
    Ok(taken)
}

/// The files of so many cgroups that hold processor time and memory; our own stands for each.
pub(crate) fn readings(samples: usize, cgroups: usize) -> Result<Samples> {
    let files = files()?;
    let mut taken = Samples::default();
    for _ in 0..samples {
        let begin = Instant::now();
        for _ in 0..cgroups {
            for file in &files {
                fs::read(file).with_context(|| format!("failed to read \"{}\"", file.display()))?;
            }
        }
        taken.push(begin.elapsed());
    }
    Ok(taken)
}

fn files() -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/cgroup")?;
    let root = Path::new("/sys/fs/cgroup");
    let v1 = |controller: &str| {
        table.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let found = controllers.split(',').any(|name| name == controller);
            found.then(|| root.join(controller).join(path.trim_start_matches('/')))
        })
    };
    let unified = || {
        let path = table.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(|path| root.join(path.trim_start_matches('/')))
    };
    let cpu = v1("cpuacct").map(|directory| directory.join("cpuacct.usage"));
    let cpu = cpu.or_else(|| Some(unified()?.join("cpu.stat"))).context("no cgroup")?;
    let memory = match v1("memory") {
        Some(directory) => {
            ["memory.usage_in_bytes", "memory.stat"].map(|file| directory.join(file))
        }
        None => {
            let directory = unified().context("no cgroup")?;
            ["memory.current", "memory.stat"].map(|file| directory.join(file))
        }
    };
    Ok(std::iter::once(cpu).chain(memory).collect())
}
