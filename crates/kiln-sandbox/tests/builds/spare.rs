//! The process that stands by for the next build.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use kiln_sandbox::*;

use crate::support::*;

/// The children of the launcher proper; when no build runs, that is the spare process.
fn children(launcher: &Launcher) -> Vec<i32> {
    let of = |pid: i32| -> Vec<i32> {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    of(of(i32::try_from(launcher.guardian_pid()).unwrap())[0])
}

fn build(launcher: &Launcher, words: &[&str]) -> Outcome {
    finish(launcher.launch(&World::new().plan(words)).unwrap())
}

/// A launcher that has a spare process, and that.
fn with_spare() -> (Launcher, i32) {
    let launcher = start_launcher();
    build(&launcher, &["exit=0"]).assert_success();
    wait_until("a spare process", || children(&launcher).len() == 1);
    let spare = children(&launcher)[0];
    (launcher, spare)
}

#[test]
fn the_next_builder_is_the_spare_process() {
    let (launcher, spare) = with_spare();
    let world = World::new();
    // It lives until it has been looked at: of what has ended, nothing tells the number.
    let builder = launcher.launch(&world.plan(&["cat=/proc/self/status", "sleep=2000"])).unwrap();
    let process = loop {
        assert!(builder.status.wait(Some(PATIENCE)).unwrap());
        if let Receipt::Message(StatusMessage::Created { process }) = builder.status.receive().unwrap() {
            break process;
        }
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).unwrap();
    assert!(info.lines().any(|line| line == format!("Pid:\t{spare}")), "not {spare}:\n{info}");
    let outcome = finish(builder);
    outcome.assert_success().assert_line("NSpid:\t1");
    // With the same isolation as a process that was created for the build.
    let first = build(&start_launcher(), &["exit=0"]);
    assert_eq!(outcome.started, first.started);
}

#[test]
fn a_build_of_another_kind_does_not_get_it() {
    let (launcher, spare) = with_spare();
    let world = World::new();
    let mut plan = world.plan(&["exit=0"]);
    sandbox_of(&mut plan).network = Network::Host;
    let outcome = finish(launcher.launch(&plan).unwrap());
    assert!(!outcome.assert_success().started.as_ref().unwrap().network);
    assert_eq!(children(&launcher), [spare], "it is kept for one of its kind");
}

#[test]
fn a_spare_process_that_was_killed_is_no_loss() {
    let (launcher, spare) = with_spare();
    let pid = rustix::process::Pid::from_raw(spare).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let status = format!("/proc/{spare}/stat");
    wait_until("its end", || fs::read_to_string(&status).unwrap().contains(") Z "));
    build(&launcher, &["exit=0"]).assert_success();
    build(&launcher, &["exit=0"]).assert_success();
    assert!(!children(&launcher).contains(&spare), "it was collected");
}

#[test]
fn a_mount_made_since_is_seen() {
    if !needs_root("mounting something between two builds") {
        return;
    }
    // The launcher in a mount namespace of its own, where nothing that is mounted outlives it.
    let world = World::new();
    let script = world.path("launcher");
    let program = env!("CARGO_BIN_EXE_kiln-launcher");
    let text = format!("#!/bin/sh\nexec unshare --mount --propagation private {program} \"$@\"\n");
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let launcher = Launcher::start_program(&script).unwrap();
    let mounted = world.path("mounted");
    fs::create_dir(&mounted).unwrap();
    let plan = || {
        let mut plan = world.plan(&["cat=/mounted/file"]);
        sandbox_of(&mut plan).paths = vec![SandboxPath {
            source: mounted.as_path().into(),
            target: "/mounted".into(),
            optional: false,
            read_only: true,
        }];
        plan
    };
    build(&launcher, &["exit=0"]).assert_success();
    wait_until("a spare process", || children(&launcher).len() == 1);
    let guardian = launcher.guardian_pid().to_string();
    let commands = format!("mount -t tmpfs none '{0}' && echo seen > '{0}/file'", mounted.display());
    let mut mount = Command::new("nsenter");
    let mounted = mount.args(["--target", &guardian, "--mount", "sh", "-c", &commands]).status().unwrap();
    assert!(mounted.success());
    finish(launcher.launch(&plan()).unwrap()).assert_success().assert_line("seen");
}
