//! A client is cut off while an image is pulled or removed, or a command runs, and asks again: only the pull and the
//! command are given up with it, unless somebody else wants the same image.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_tests::client::Cri;
use cringle_tests::cut::{CUTS, Call, Cut, Doomed};
use cringle_tests::image::{Description, busybox, digest};
use cringle_tests::inventory::{files, processes_in};
use cringle_tests::registry::Fault;
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;

/// How many ask at once.
const MANY: usize = 64;

#[test]
fn a_pull_that_is_cut_off_while_the_name_is_resolved_leaves_nothing() -> Result<()> {
    cut_while_stalled("/manifests/")
}

#[test]
fn a_pull_that_is_cut_off_before_the_configuration_leaves_nothing() -> Result<()> {
    cut_while_stalled("/blobs/")
}

#[test]
fn a_pull_that_is_cut_off_in_a_layer_leaves_nothing() -> Result<()> {
    cut_while_stalled(&layer()?)
}

/// Cuts a pull off where the registry goes silent; then many pull at once, and each thing comes once.
fn cut_while_stalled(place: &str) -> Result<()> {
    on_stage(async |stage| {
        let call = Call::Pull(BUSYBOX.to_owned());
        for cut in CUTS {
            stage.registry.fail(place, Fault::Stalled);
            let mut doomed = pull_until(stage, &call, cut, place).await?;
            doomed.cut().await.with_context(|| format!("{cut:?}"))?;
            stage.registry.heal();
            // Until the daemon knows that the client is gone, who asks anew joins what hangs, as it should.
            until("the pull was given up", async || Ok(stage.registry.stalled() == 0)).await?;
            ensure!(stage.cri.all_images().await?.is_empty(), "{cut:?}: half an image");
            let root = stage.daemon.root();
            until("nothing is left of the pull", async || Ok(files(&root).is_empty())).await?;

            let before = stage.registry.requests().len();
            let id = call.make_often(&stage.cri, MANY).await?;
            let fetched = stage.registry.requests().split_off(before);
            let blobs = fetched.iter().filter(|line| line.contains("/blobs/")).count();
            ensure!(blobs == 2, "{cut:?}: {fetched:?}");
            let image = stage.cri.image(BUSYBOX).await?.context("the image is there")?;
            ensure!(image.id == id, "{image:?} is not {id}");
            stage.cri.remove_image(&id).await?;
        }
        Ok(())
    })
}

/// Where the image's layer is.
fn layer() -> Result<String> {
    Ok(format!("/blobs/{}", digest(&busybox()?.packed)))
}

/// A pull that has asked the registry for something.
async fn pull_until(stage: &Stage, call: &Call, cut: Cut, place: &str) -> Result<Doomed> {
    let before = stage.registry.requests().len();
    let doomed = Doomed::begin(&stage.daemon, &stage.cri, call, cut).await?;
    let asked = || {
        let since = stage.registry.requests().split_off(before);
        Ok(since.iter().any(|request| request.contains(place)))
    };
    doomed.until("the registry was asked", asked).await?;
    Ok(doomed)
}

#[test]
fn a_pull_goes_on_for_who_still_wants_it_when_the_first_client_leaves() -> Result<()> {
    on_stage(async |stage| {
        let layer = layer()?;
        let call = Call::Pull(BUSYBOX.to_owned());
        // Not with a deadline: it might pass before anybody joined.
        for cut in [Cut::Cancelled, Cut::Disconnected] {
            stage.registry.fail(&layer, Fault::Slow);
            let before = stage.registry.requests().len();
            let mut doomed = pull_until(stage, &call, cut, &layer).await?;
            let (cri, same) = (stage.cri.clone(), call.clone());
            let others = tokio::spawn(async move { same.make_often(&cri, MANY).await });
            tokio::task::yield_now().await;
            doomed.cut().await?;
            let id = others.await??;
            stage.registry.heal();
            let fetched = stage.registry.requests().split_off(before);
            let image = stage.cri.image(BUSYBOX).await?.context("the image is there")?;
            ensure!(image.id == id, "{image:?} is not {id}: {fetched:?}");
            stage.cri.remove_image(&id).await?;
        }
        Ok(())
    })
}

#[test]
fn a_removal_of_an_image_that_is_cut_off_can_be_said_again() -> Result<()> {
    on_stage(async |stage| {
        let other = stage.add_image("test/other", &Description::default())?;
        for _ in CUTS {
            stage.cri.pull(BUSYBOX).await?;
            let kept = stage.cri.pull(&other).await?;
            let call = Call::RemoveImage(BUSYBOX.to_owned());
            let (mut own, same) = (Cri::connect(&stage.daemon.socket()).await?, call.clone());
            let first = tokio::spawn(async move { same.make(&mut own).await });
            tokio::task::yield_now().await;
            // Whether it was answered just before is all the same.
            first.abort();
            call.make_often(&stage.cri, MANY).await?;
            ensure!(stage.cri.image(BUSYBOX).await?.is_none(), "it is still there");
            let image = stage.cri.image(&other).await?.context("the other one is there")?;
            ensure!(image.id == kept, "{image:?}");
            let main = container("main", &other, &["sleep", "600"]);
            let (pod, id) = stage.cri.start_in_pod(&pod("pod"), &main).await?;
            stage.cri.output(&id, &["cat", "/etc/image"]).await?;
            stage.cri.take_away(&pod).await?;
            stage.cri.remove_image(&other).await?;
        }
        Ok(())
    })
}

/// A pod with a container that does nothing but wait for its children, also for those that were left to it.
async fn sleeper(stage: &mut Stage) -> Result<(String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    let main = container("main", BUSYBOX, &["sh", "-c", "sleep 600 & wait"]);
    stage.cri.start_in_pod(&pod("pod"), &main).await
}

/// A command with offspring that is in a session of its own.
fn long_command(id: &str) -> Call {
    let script = "setsid sleep 6000 & sleep 6001; :";
    Call::Exec(id.to_owned(), ["sh", "-c", script].map(str::to_owned).to_vec())
}

/// What `sleeper` has by itself, and what `long_command` adds.
const ALONE: usize = 2;
const ADDED: usize = 3;

#[test]
fn a_command_whose_client_leaves_ends_with_all_its_offspring() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        for cut in CUTS {
            let call = long_command(&id);
            let mut doomed = Doomed::begin(&stage.daemon, &stage.cri, &call, cut).await?;
            if cut != Cut::Deadline {
                let runs = || Ok(processes_in(&id)?.len() == ALONE + ADDED);
                doomed.until("the command runs", runs).await?;
            }
            doomed.cut().await.with_context(|| format!("{cut:?}"))?;
            until("nothing of the command runs", async || Ok(processes_in(&id)?.len() == ALONE))
                .await
                .with_context(|| format!("{cut:?}"))?;
            ensure!(stage.cri.output(&id, &["echo", "again"]).await? == "again\n", "{cut:?}");
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn many_commands_whose_client_leaves_end_all() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let mut doomed = Vec::new();
        for _ in 0..MANY {
            let call = long_command(&id);
            let begun = Doomed::begin(&stage.daemon, &stage.cri, &call, Cut::Cancelled).await?;
            doomed.push(begun);
        }
        // The clients leave wherever theirs is: running, being executed, or waiting for the shim.
        until("some commands run", async || Ok(processes_in(&id)?.len() > ALONE + ADDED)).await?;
        for doomed in &mut doomed {
            doomed.cut().await?;
        }
        until("no command runs", async || Ok(processes_in(&id)?.len() == ALONE)).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_command_ends_when_the_daemon_is_killed_and_can_be_said_again() -> Result<()> {
    on_stage(async |stage| {
        let (pod, id) = sleeper(stage).await?;
        let call = long_command(&id);
        let (mut cri, same) = (stage.cri.clone(), call.clone());
        let answer = tokio::spawn(async move { same.make(&mut cri).await });
        let runs = async || Ok(processes_in(&id)?.len() == ALONE + ADDED);
        until("the command runs", runs).await?;
        stage.daemon.kill()?;
        ensure!(answer.await?.is_err(), "a dead daemon answered");
        // Nobody would have its output or its exit code: the shim ends it, without a daemon.
        until("nothing of the command runs", async || Ok(processes_in(&id)?.len() == ALONE))
            .await?;
        stage.start_again().await?;
        ensure!(stage.cri.output(&id, &["echo", "again"]).await? == "again\n", "the next one");
        stage.cri.take_away(&pod).await
    })
}
