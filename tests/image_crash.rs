//! Images when the daemon is killed in the middle of a pull, and when the disk is full.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_tests::client::{code, message};
use cringle_tests::image::{Description, LayerBuilder, busybox};
use cringle_tests::inventory::files;
use cringle_tests::registry::Fault;
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tonic::Code;

const IMAGE: &str = "registry.example/test/layers:1";

/// So many parts the time of a whole pull is divided into, from before the first answer to after the last byte.
const MOMENTS: u32 = 20;

/// When a daemon is killed in the middle of a pull.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// There is no level to wait for: any moment is one to be killed at.
    After(Duration),
    /// When a layer is unpacked; however busy the machine is, the moments before may all have been none of these.
    Unpacking,
}

#[test]
fn a_pull_that_was_killed_at_any_moment_leaves_nothing_and_can_be_made_again() -> Result<()> {
    on_stage(async |stage| {
        add_layers(stage)?;
        stage.registry.fail("/blobs/", Fault::Slow);
        let begin = Instant::now();
        stage.cri.pull(IMAGE).await?;
        let whole = begin.elapsed();
        stage.cri.remove_image(IMAGE).await?;
        let parts = (0..MOMENTS).map(|part| Moment::After(whole * part / (MOMENTS - 1)));
        let mut cut_short = 0;
        for moment in parts.chain([Moment::Unpacking]) {
            let is_here = Box::pin(killed(stage, moment)).await;
            cut_short += u32::from(!is_here.with_context(|| format!("killed {moment:?}"))?);
        }
        ensure!(cut_short > 0, "no pull was cut short");
        stage.registry.heal();
        stage.cri.pull(IMAGE).await?;
        Ok(())
    })
}

/// Kills the daemon while it pulls, starts it again, and looks at what is there; whether the image is. It is removed then.
async fn killed(stage: &mut Stage, moment: Moment) -> Result<bool> {
    let mut cri = stage.cri.clone();
    let pull = tokio::spawn(async move { cri.pull(IMAGE).await });
    let workers = reached(stage, moment, &pull).await?;
    stage.daemon.kill()?;
    let answered = pull.await?.is_ok();
    wait::until("the workers end with their daemon", async || {
        Ok(workers.iter().all(|worker| !is_alive(worker)))
    })
    .await
    .with_context(|| format!("{workers:?}"))?;
    stage.start_again().await?;
    let is_here = stage.cri.image(IMAGE).await?.is_some();
    ensure!(is_here || !answered, "an image that was answered is lost");
    let root = stage.daemon.root();
    wait::until("what was begun is gone", async || {
        let pieces = ["ingest", "trash"].map(|name| root.join("images").join(name));
        Ok(pieces.iter().all(|place| is_empty(place)) && (is_here || files(&root).is_empty()))
    })
    .await
    .with_context(|| format!("{:?}", files(&root)))?;
    stage.cri.remove_image(IMAGE).await?;
    Ok(is_here)
}

/// Waits for the moment, but not for one after the end of the pull; the workers there are then.
async fn reached<T>(
    stage: &mut Stage,
    moment: Moment,
    pull: &JoinHandle<T>,
) -> Result<Vec<Process>> {
    let daemon = stage.daemon.id()?;
    match moment {
        Moment::After(time) => {
            let ended = wait::until("the pull ends", async || Ok(pull.is_finished()));
            let _which_came_first = tokio::time::timeout(time, ended).await;
            children(daemon)
        }
        Moment::Unpacking => {
            let mut workers = Vec::new();
            wait::until("a worker unpacks", async || {
                workers = children(daemon)?;
                Ok(!workers.is_empty())
            })
            .await?;
            Ok(workers)
        }
    }
}

fn add_layers(stage: &Stage) -> Result<()> {
    let mut layers = vec![busybox()?];
    for number in 0..3_u8 {
        let name = format!("file-{number}");
        layers.push(LayerBuilder::default().file(&name, 0o644, &vec![number; 300_000])?.pack()?);
    }
    stage.registry.add("test/layers", "1", &layers, &Description::default())?;
    Ok(())
}

/// A process by its number and when it began.
type Process = (String, String);

fn children(parent: u32) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{parent}/task"))? {
        let listed = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(listed.split_whitespace().filter_map(process));
    }
    Ok(found)
}

fn process(number: &str) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let rest = text.rsplit_once(") ")?.1;
    let began = rest.split(' ').nth(19)?;
    let is_dead = rest.starts_with('Z');
    (!is_dead).then(|| (number.to_owned(), began.to_owned()))
}

fn is_alive(known: &Process) -> bool {
    process(&known.0).as_ref() == Some(known)
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn a_full_disk_is_told_as_such_and_can_be_freed_by_removing_images() -> Result<()> {
    on_stage(async |stage| {
        let root = stage.daemon.root();
        stage.daemon.stop().await?;
        let size = c"size=12m";
        rustix::mount::mount("tmpfs", &root, "tmpfs", MountFlags::empty(), size)?;
        let outcome = Box::pin(on_a_small_disk(stage)).await;
        stage.daemon.kill()?;
        rustix::mount::unmount(&root, UnmountFlags::DETACH)?;
        stage.start_again().await?;
        outcome
    })
}

async fn on_a_small_disk(stage: &mut Stage) -> Result<()> {
    stage.start_again().await?;
    let large = LayerBuilder::default().file("large", 0o644, &vec![1; 16 << 20])?.pack()?;
    stage.registry.add("test/large", "1", &[large], &Description::default())?;
    stage.cri.pull(BUSYBOX).await?;
    let refused = stage.cri.pull("registry.example/test/large:1").await;
    ensure!(code(&refused) == Some(Code::ResourceExhausted), "{refused:?}");
    let text = message(&refused);
    ensure!(text.contains("test/large:1") && text.contains("\"large\""), "{text}");
    ensure!(stage.cri.all_images().await?.len() == 1, "what was there is not there any more");
    let filler = stage.daemon.root().join("filler");
    // Until nothing more goes in, not even a byte.
    ensure!(
        fs::File::create(&filler)
            .and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file))
            .is_err()
    );
    stage.cri.remove_image(BUSYBOX).await?;
    ensure!(stage.cri.all_images().await?.is_empty(), "the image is still there");
    fs::remove_file(filler)?;
    // What was removed is deleted in the background.
    let root = stage.daemon.root();
    wait::until("the space is given back", async || Ok(has_room(&root))).await?;
    stage.cri.pull(BUSYBOX).await?;
    stage.cri.remove_image(BUSYBOX).await
}

fn has_room(root: &Path) -> bool {
    rustix::fs::statvfs(root).is_ok_and(|disk| disk.f_bavail * disk.f_frsize > 10 << 20)
}
