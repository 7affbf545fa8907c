//! Plugins of the Node Resource Interface that refuse, disagree, are slow, die, or are not there.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{ContainerState, PodSandboxState};
use cringle_tests::client::{code, message};
use cringle_tests::plugin::{Plugin, ready, sleeper};
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, on_stage};
use serde_json::{Value, json};
use tonic::Code;

#[test]
fn a_refusal_is_a_clear_error_that_leaves_nothing_and_the_next_try_works() -> Result<()> {
    on_stage(async |stage| {
        let plugin = Plugin::start(stage, "10-moody", &[]).await?;
        stage.cri.pull(BUSYBOX).await?;
        plugin.notes().behave(r#"{"RunPodSandbox": {"error": "no pods today"}}"#)?;
        let config = pod("pod");
        let refused = stage.cri.run_pod(&config).await;
        ensure!(code(&refused) == Some(Code::FailedPrecondition), "{refused:?}");
        let text = message(&refused);
        ensure!(text.contains("10-moody") && text.contains("no pods today"), "{text}");
        ensure!(stage.cri.pods().await?.is_empty());
        let told = plugin.notes().calls()?;
        ensure!(
            told.ends_with(&["StopPodSandbox".to_owned(), "RemovePodSandbox".to_owned()]),
            "{told:?}"
        );

        plugin.notes().behave(r#"{"CreateContainer": {"error": "no containers today"}}"#)?;
        let pod = stage.cri.run_pod(&config).await?;
        let refused = stage.cri.create((&pod, &config), &sleeper()).await;
        ensure!(message(&refused).contains("no containers today"), "{refused:?}");
        ensure!(stage.cri.containers(None).await?.is_empty());

        plugin.notes().behave(r#"{"StartContainer": {"error": "no starts today"}}"#)?;
        let id = stage.cri.create((&pod, &config), &sleeper()).await?;
        let refused = stage.cri.start(&id).await;
        ensure!(message(&refused).contains("no starts today"), "{refused:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!(status.message.contains("no starts today"), "{status:?}");

        plugin.notes().behave("{}")?;
        let mut again = sleeper();
        again.metadata.get_or_insert_default().attempt = 1;
        let id = stage.cri.create((&pod, &config), &again).await?;
        stage.cri.start(&id).await?;
        // What is told and can't be refused any more is done all the same.
        plugin.notes().behave(
            r#"{"StopContainer": {"error": "x"}, "StopPodSandbox": {"error": "x"},
            "RemoveContainer": {"error": "x"}, "RemovePodSandbox": {"error": "x"}}"#,
        )?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_slow_plugin_is_left_out_and_one_that_dies_holds_nobody_up() -> Result<()> {
    on_stage(async |stage| {
        stage.configure("plugin_request_timeout = \"1s\"\n").await?;
        let (pod, config) = ready(stage).await?;
        for (attempt, (name, behaviour)) in [
            ("10-slow", r#"{"CreateContainer": {"sleep": 60000}}"#),
            ("11-mortal", r#"{"CreateContainer": {"exit": 1}}"#),
        ]
        .into_iter()
        .enumerate()
        {
            let mut plugin = Plugin::behaving(stage, name, &[], behaviour).await?;
            let mut wanted = sleeper();
            wanted.metadata.get_or_insert_default().attempt = u32::try_from(attempt)?;
            let id = stage.cri.create((&pod, &config), &wanted).await?;
            stage.cri.start(&id).await?;
            if attempt == 0 {
                // It comes back, and is told what it missed.
                let again = plugin.notes().heard_again("Synchronize", 1).await?;
                let known = again["containers"].as_object().context("containers")?;
                ensure!(known.contains_key(&id), "{again}");
            } else {
                plugin.ended().await?;
            }
        }
        // One that says that it matters.
        let behaviour = r#"{"CreateContainer": {"sleep": 60000}}"#;
        let strict = Plugin::behaving(stage, "10-strict", &["-strict"], behaviour).await?;
        let mut wanted = sleeper();
        wanted.metadata.get_or_insert_default().attempt = 9;
        let failed = stage.cri.create((&pod, &config), &wanted).await;
        ensure!(code(&failed) == Some(Code::Unavailable), "{failed:?}");
        ensure!(message(&failed).contains("10-strict"), "{failed:?}");
        drop(strict);
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn two_that_want_different_things_and_what_is_not_done_are_errors_with_names() -> Result<()> {
    on_stage(async |stage| {
        let adjust = |adjust: &Value| json!({"CreateContainer": {"adjust": adjust}}).to_string();
        let value = |value: &str| json!({"env": [{"key": "X", "value": value}]});
        let one = Plugin::behaving(stage, "10-one", &[], &adjust(&value("1"))).await?;
        let two = Plugin::behaving(stage, "20-two", &[], &adjust(&value("2"))).await?;
        let judge = Plugin::start(stage, "30-judge", &["-validator"]).await?;
        let (pod, config) = ready(stage).await?;
        let refused = stage.cri.create((&pod, &config), &sleeper()).await;
        ensure!(code(&refused) == Some(Code::FailedPrecondition), "{refused:?}");
        let text = message(&refused);
        ensure!(text.contains("\"10-one\" and \"20-two\" both set Env \"X\""), "{text}");
        drop(one);
        for (wish, expected, words) in [
            (
                json!({"linux": {"netDevices": {"eth0": {"name": "eth7"}}}}),
                Code::Unimplemented,
                "LinuxNetDevices",
            ),
            (json!({"linux": {"cgroupsPath": "/"}}), Code::InvalidArgument, "right below"),
        ] {
            two.notes().behave(&adjust(&wish))?;
            let refused = stage.cri.create((&pod, &config), &sleeper()).await;
            ensure!(code(&refused) == Some(expected), "{refused:?}");
            let text = message(&refused);
            ensure!(text.contains("20-two") && text.contains(words), "{text}");
        }
        // Beside the pod's other containers, but not where one of them is.
        two.notes().behave("{}")?;
        let other = container("other", BUSYBOX, &["sleep", "600"]);
        let other = stage.cri.create((&pod, &config), &other).await?;
        let told = two.notes().last("PostCreateContainer")?["container"].take();
        let taken = json!({"linux": {"cgroupsPath": told["linux"]["cgroupsPath"]}});
        two.notes().behave(&adjust(&taken))?;
        let refused = stage.cri.create((&pod, &config), &sleeper()).await;
        ensure!(message(&refused).contains("is another one's"), "{refused:?}");
        stage.cri.remove(&other).await?;
        two.notes().behave("{}")?;
        judge
            .notes()
            .behave(r#"{"ValidateContainerAdjustment": {"reject": "I do not like it"}}"#)?;
        let refused = stage.cri.create((&pod, &config), &sleeper()).await;
        ensure!(message(&refused).contains("I do not like it"), "{refused:?}");
        ensure!(stage.cri.containers(None).await?.is_empty());
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn without_a_required_plugin_no_container_is_made() -> Result<()> {
    on_stage(async |stage| {
        stage
            .configure(
                "default_validator = true\nrequired_plugins = [\"needed\"]\n\
                 tolerate_missing_plugins_annotation = \"tolerate.example\"\n",
            )
            .await?;
        stage.cri.pull(BUSYBOX).await?;
        let mut tolerant = pod("tolerant");
        tolerant.annotations.insert("tolerate.example".to_owned(), "true".to_owned());
        let free = stage.cri.run_pod(&tolerant).await?;
        stage.cri.create((&free, &tolerant), &sleeper()).await?;
        let (strict, config) = ready(stage).await?;
        let refused = stage.cri.create((&strict, &config), &sleeper()).await;
        ensure!(code(&refused) == Some(Code::PermissionDenied), "{refused:?}");
        ensure!(message(&refused).contains("needed"), "{refused:?}");
        // There, but too slow to have had a say.
        let slow = r#"{"CreateContainer": {"sleep": 60000}}"#;
        let plugin = Plugin::behaving(stage, "10-needed", &[], slow).await?;
        let refused = stage.cri.create((&strict, &config), &sleeper()).await;
        ensure!(code(&refused) == Some(Code::PermissionDenied), "{refused:?}");
        plugin.notes().heard_again("Synchronize", 1).await?;
        plugin.notes().behave("{}")?;
        stage.cri.create((&strict, &config), &sleeper()).await?;
        let ready = stage.cri.pod(&strict).await?.state();
        ensure!(ready == PodSandboxState::SandboxReady);
        stage.cri.take_away(&strict).await?;
        stage.cri.take_away(&free).await
    })
}
