//! Execs with streams and attachments.

use super::supervisor::{End, Opened};
use super::*;
use cringle_kernel::terminal::{Size, resize};
use cringle_proto_shim::control::WantedInput;
use cringle_service::streams::{Streams, Wanted};
use oci_spec::runtime::{BoxBuilder, Process};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

const ALL: Streams = Streams { input: Wanted::Yes, output: Wanted::Yes, error: Wanted::Yes };
const OUTPUT: Streams = Streams { input: Wanted::No, output: Wanted::Yes, error: Wanted::No };
const NO_ERROR: Streams = Streams { input: Wanted::Yes, output: Wanted::Yes, error: Wanted::No };

/// Reads into `seen` what is there now; whether it has ended.
fn read_now(source: &OwnedFd, seen: &mut Vec<u8>) -> bool {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(source, &mut chunk[..]) {
            Ok(0) | Err(Errno::IO) => return true,
            Ok(read) => seen.extend_from_slice(&chunk[..read]),
            Err(Errno::AGAIN) => return false,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Everything up to the end.
async fn rest(source: &OwnedFd) -> String {
    let mut seen = Vec::new();
    until("end of a stream", || read_now(source, &mut seen)).await;
    String::from_utf8(seen).unwrap()
}

/// What comes up to and with `text`.
async fn up_to(source: &OwnedFd, text: &str) -> String {
    let mut seen = Vec::new();
    until(&format!("{text:?}"), || {
        read_now(source, &mut seen);
        String::from_utf8_lossy(&seen).contains(text)
    })
    .await;
    String::from_utf8(seen).unwrap()
}

fn write(target: Option<&OwnedFd>, text: &str) {
    assert_eq!(rustix::io::write(target.unwrap(), text.as_bytes()).unwrap(), text.len());
}

fn output(opened: &Opened) -> &OwnedFd {
    opened.output.as_ref().unwrap()
}

async fn attach(supervisor: &Supervisor, streams: Streams, input: WantedInput) -> Opened {
    within(supervisor.open_attach(streams, input)).await.unwrap_or_else(|error| {
        panic!("{}", chain(&error));
    })
}

async fn exec(supervisor: &Supervisor, process: &Process, streams: Streams) -> Opened {
    within(supervisor.open_exec(process, streams)).await.unwrap_or_else(|error| {
        panic!("{}", chain(&error));
    })
}

fn on_terminal(script: &str, size: Size) -> Process {
    let mut process = oci_process(script);
    let size = BoxBuilder::default().height(size.rows).width(size.columns).build().unwrap();
    process.set_terminal(Some(true)).set_console_size(Some(size));
    process
}

async fn count(supervisor: &Supervisor, what: &str) -> String {
    let process = oci_process(&format!("ps -o args | grep -c '{what}'"));
    let output = within(supervisor.exec_sync(&process, None, &keeping(100))).await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until no process of the container has this in its command line.
pub(super) async fn gone(supervisor: &Supervisor, what: &str) {
    let end = Instant::now() + DEADLINE;
    while count(supervisor, what).await != "0" {
        assert!(Instant::now() < end, "{what} is still there");
    }
}

fn with_terminal(script: &str) -> Container {
    let mut container = Container::new(script);
    container.terminal = TerminalMode::Present;
    container.spec["process"]["terminal"] = json!(true);
    container
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_reads_its_input_to_the_end_and_answers_on_both_outputs() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script = "while read line; do echo $line; echo $line >&2; done; echo end; exit 3";
    let mut opened = exec(&supervisor, &oci_process(script), ALL).await;
    assert!(opened.terminal.is_none());
    write(opened.input.as_ref(), "one\n");
    assert_eq!(up_to(output(&opened), "\n").await, "one\n");
    drop(opened.input.take());
    assert_eq!(rest(output(&opened)).await, "end\n");
    assert_eq!(rest(opened.error.as_ref().unwrap()).await, "one\n");
    assert_eq!(within(opened.link.ended()).await.unwrap(), End::Exited(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_an_exec_that_nobody_wants_leads_nowhere() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script = "cat; seq 1 100000 >&2; echo end";
    let mut opened = exec(&supervisor, &oci_process(script), OUTPUT).await;
    assert!(opened.input.is_none() && opened.error.is_none());
    assert_eq!(rest(output(&opened)).await, "end\n");
    assert_eq!(within(opened.link.ended()).await.unwrap(), End::Exited(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_before_the_program_begins_and_can_be_resized() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let size = Size { rows: 33, columns: 77 };
    let script = "stty size; read line; stty size; test -t 0 && test -t 1 && test -t 2 && exit 6";
    let mut opened = exec(&supervisor, &on_terminal(script, size), NO_ERROR).await;
    assert!(opened.error.is_none());
    assert_eq!(up_to(output(&opened), "\n").await, "33 77\r\n");
    resize(opened.terminal.as_ref().unwrap(), Size { rows: 44, columns: 88 }).unwrap();
    write(opened.input.as_ref(), "go\n");
    assert_eq!(rest(output(&opened)).await, "go\r\n44 88\r\n");
    assert_eq!(within(opened.link.ended()).await.unwrap(), End::Exited(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_kills_the_whole_tree_even_if_its_terminal_goes_first() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script = "(setsid sleep 7771 &); echo begun; sleep 7771";
    let process = on_terminal(script, Size { rows: 1, columns: 1 });
    let Opened { input, output, terminal, mut link, .. } =
        exec(&supervisor, &process, NO_ERROR).await;
    up_to(output.as_ref().unwrap(), "begun").await;
    // As when a daemon dies: nobody says in which order the kernel closes what it had.
    drop((input, output, terminal));
    let ended = tokio::time::timeout(Duration::from_millis(200), link.ended()).await;
    assert!(ended.is_err(), "it was hung up: {ended:?}");
    drop(link);
    gone(&supervisor, "sleep 777[1]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_leaves_no_session_whatever_its_streams() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    for mut process in [oci_process(""), on_terminal("", Size { rows: 1, columns: 1 })] {
        process.set_args(Some(vec!["/nope".to_owned()]));
        let error = within(supervisor.open_exec(&process, NO_ERROR)).await.unwrap_err();
        assert!(matches!(error, ExecError::NotExecuted { .. }), "{error:?}");
        assert!(chain(&error).contains("/nope"), "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_whose_session_is_dropped_dies_with_its_offspring() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let script = "trap '' HUP; setsid sleep 6543 & echo begun; sleep 6543";
    for process in [oci_process(script), on_terminal(script, Size { rows: 24, columns: 80 })] {
        let opened = exec(&supervisor, &process, OUTPUT).await;
        up_to(output(&opened), "begun").await;
        drop(opened);
        gone(&supervisor, "[s]leep 6543").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_attached_gets_the_output_and_the_log_is_whole() {
    let mut container = Container::new("while read word; do echo $word; done");
    container.input = Input::Open;
    let supervisor = container.started().await;
    let first = attach(&supervisor, ALL, WantedInput::Shared).await;
    write(first.input.as_ref(), "one\n");
    assert_eq!(up_to(output(&first), "one\n").await, "one\n");
    let mut second = attach(&supervisor, ALL, WantedInput::Shared).await;
    write(second.input.as_ref(), "two\n");
    for attached in [&first, &second] {
        assert_eq!(up_to(output(attached), "\n").await, "two\n");
    }
    drop(first);
    write(second.input.as_ref(), "three\n");
    assert_eq!(up_to(output(&second), "\n").await, "three\n");
    assert!(matches!(supervisor.state().await.unwrap(), ShimState::Running(_)));
    supervisor.kill_all().await.unwrap();
    assert_eq!(within(second.link.ended()).await.unwrap(), End::ContainerEnded);
    assert_eq!(rest(output(&second)).await, "");
    assert_eq!(container.log(), ["stdout F one", "stdout F two", "stdout F three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_says_last_reaches_who_is_attached() {
    for target in ["log", "none"] {
        let mut container = Container::new("read line; seq 1 5000; seq 1 5000 >&2");
        container.input = Input::Open;
        let mut launch = container.launch();
        if target == "none" {
            launch.stdout = LogTarget::Attached;
        }
        let supervisor = Supervisor::launch(program(), &launch).await.unwrap();
        supervisor.create(&launch).await.unwrap();
        supervisor.start().await.unwrap();
        let mut attached = attach(&supervisor, ALL, WantedInput::Shared).await;
        write(attached.input.as_ref(), "go\n");
        let numbers: String = (1..=5000).map(|number| format!("{number}\n")).collect();
        assert_eq!(rest(output(&attached)).await, numbers, "{target}");
        assert_eq!(rest(attached.error.as_ref().unwrap()).await, numbers, "{target}");
        assert_eq!(within(attached.link.ended()).await.unwrap(), End::ContainerEnded);
        let late = within(supervisor.open_attach(ALL, WantedInput::Unwanted)).await;
        assert!(matches!(late, Err(SupervisorError::Refused { .. })), "{late:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_too_slowly_is_told_and_nobody_else_is_hurt() {
    // A quarter more than the pipe of who is attached holds.
    let mut container = Container::new("read line; seq 1 200000; sleep 1000");
    container.input = Input::Open;
    let supervisor = container.started().await;
    let mut slow = attach(&supervisor, ALL, WantedInput::Shared).await;
    let mut quick = attach(&supervisor, OUTPUT, WantedInput::Unwanted).await;
    let mut reader = pipe::Receiver::from_owned_fd(quick.output.take().unwrap()).unwrap();
    write(slow.input.as_ref(), "go\n");
    let mut seen = Vec::with_capacity(2 << 20);
    while !seen.ends_with(b"\n200000\n") {
        let read = within(reader.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "an end after {} bytes", seen.len());
    }
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.lines().map(|line| line.parse::<u32>().unwrap()).eq(1..=200_000), "a gap");
    assert_eq!(within(slow.link.ended()).await.unwrap(), End::FellBehind);
    let got = rest(output(&slow)).await;
    assert!(!got.is_empty() && seen.starts_with(&got), "{} bytes", got.len());
    container.logged("stdout F 200000").await;
    assert_eq!(container.log().len(), 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_for_one_client_ends_with_him_and_for_ever() {
    let mut container = Container::new("cat; echo end; sleep 1000");
    container.input = Input::Once;
    let supervisor = container.started().await;
    let looker = attach(&supervisor, OUTPUT, WantedInput::Unwanted).await;
    let mut first = attach(&supervisor, ALL, WantedInput::Whole).await;
    let second = attach(&supervisor, ALL, WantedInput::Whole).await;
    assert!(first.input.is_some() && second.input.is_none());
    write(first.input.as_ref(), "word\n");
    assert_eq!(up_to(output(&looker), "\n").await, "word\n");
    // Half closed: the output goes on.
    drop(first.input.take());
    assert_eq!(up_to(output(&first), "end\n").await, "word\nend\n");
    drop(first);
    let third = attach(&supervisor, ALL, WantedInput::Whole).await;
    assert!(third.input.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn input_kept_open_is_there_for_the_next_client() {
    let mut container = Container::new("cat; echo never");
    container.input = Input::Open;
    let supervisor = container.started().await;
    for word in ["one\n", "two\n"] {
        let mut attached = attach(&supervisor, ALL, WantedInput::Shared).await;
        write(attached.input.as_ref(), word);
        drop(attached.input.take());
        assert_eq!(up_to(output(&attached), "\n").await, word);
    }
    container.logged("two").await;
    assert_eq!(container.log(), ["stdout F one", "stdout F two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_terminal_takes_input_and_sizes_of_who_is_attached() {
    let mut container = with_terminal("while read line; do stty size; done");
    container.input = Input::Open;
    let supervisor = container.started().await;
    let attached = attach(&supervisor, NO_ERROR, WantedInput::Shared).await;
    resize(attached.terminal.as_ref().unwrap(), Size { rows: 12, columns: 34 }).unwrap();
    write(attached.input.as_ref(), "\n");
    up_to(output(&attached), "12 34\r\n").await;
    drop(attached);
    let again = attach(&supervisor, NO_ERROR, WantedInput::Whole).await;
    write(again.input.as_ref(), "\n");
    up_to(output(&again), "12 34\r\n").await;
    assert!(matches!(supervisor.state().await.unwrap(), ShimState::Running(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_waits_for_a_place_and_is_whole_then() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let bounds = ExecBounds::new(1 << 20, 8, 1);
    let hog = oci_process("seq 1 30000; echo full >/proc/1/fd/1; sleep 1000");
    let much = oci_process("seq 1 30000");
    let hogging = supervisor.exec_sync(&hog, None, &bounds);
    let mut waiting = Box::pin(supervisor.exec_sync(&much, None, &bounds));
    tokio::select! {
        _ = hogging => panic!("it does not end"),
        () = container.logged("full") => {}
    }
    // What is little needs no place.
    let little = within(supervisor.exec_sync(&oci_process("seq 1 10"), None, &bounds)).await;
    assert_eq!(little.unwrap().stdout.len(), 21);
    let numbers: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let output = within(&mut waiting).await.unwrap();
    assert!(output.stdout == numbers.as_bytes(), "{} bytes", output.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_an_exec_that_waits_for_others_runs() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let bounds = ExecBounds::new(1000, 1, 1);
    let long = oci_process("echo begun >/proc/1/fd/1; sleep 1000");
    let running = supervisor.exec_sync(&long, None, &bounds);
    tokio::pin!(running);
    tokio::select! {
        _ = &mut running => panic!("it does not end"),
        () = container.logged("begun") => {}
    }
    let timeout = Some(Duration::from_millis(200));
    let process = oci_process("true");
    let waiting = supervisor.exec_sync(&process, timeout, &bounds);
    let error = tokio::select! {
        _ = &mut running => panic!("it does not end"),
        ended = within(waiting) => ended.unwrap_err(),
    };
    assert!(matches!(error, ExecError::TimedOut), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn execs_and_attachments_leave_nothing_behind() {
    let container = Container::new("sleep 1000");
    let supervisor = container.started().await;
    let descriptors = || {
        let place = format!("/proc/{}/fd", shim_pid(&container));
        fs::read_dir(place).unwrap().count()
    };
    let round = async || {
        let timeout = Some(Duration::from_millis(20));
        let stuck = oci_process("trap '' TERM; sleep 7654 & (setsid sleep 7654 &); wait");
        let bounds = keeping(1000);
        within(supervisor.exec_sync(&stuck, timeout, &bounds)).await.unwrap_err();
        within(supervisor.exec_sync(&oci_process("(sleep 0.01 &)"), None, &bounds)).await.unwrap();
        let size = Size { rows: 24, columns: 80 };
        drop(exec(&supervisor, &on_terminal("cat", size), NO_ERROR).await);
        let mut missing = on_terminal("", size);
        missing.set_args(Some(vec!["/nope".to_owned()]));
        within(supervisor.open_exec(&missing, NO_ERROR)).await.unwrap_err();
        drop(attach(&supervisor, ALL, WantedInput::Shared).await);
    };
    round().await;
    gone(&supervisor, "[s]leep 7654").await;
    let before = descriptors();
    for _ in 0..40 {
        round().await;
    }
    until("as many descriptors as before", || descriptors() <= before).await;
    gone(&supervisor, "[s]leep 7654").await;
    gone(&supervisor, "[c]at").await;
    let end = Instant::now() + DEADLINE;
    // Each exec clears away what those before it left.
    while groups(&container) > 1 {
        count(&supervisor, "x").await;
        assert!(Instant::now() < end, "{} groups", groups(&container));
    }
}

/// The cgroups of execs.
fn groups(container: &Container) -> usize {
    let directories = container.cgroup_directories();
    let entries = directories.iter().flat_map(|place| fs::read_dir(place).unwrap());
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("exec-"))
        .count()
}
