//! How builds end, and that nothing of them is left.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_sandbox::*;

use crate::support::*;

#[test]
fn d11_exit_codes_and_signals_come_back() {
    for code in [0, 1, 17, 255] {
        assert_eq!(run_words(&[&format!("exit={code}")]).status(), ExitStatus::Code(code));
    }
    // The builder is an init, whose own signals are ignored by default; a trap isn't.
    let ExitStatus::Signal(signal) = run_words(&["abort"]).status() else { panic!("not a signal") };
    assert_eq!(signal, libc::SIGILL);
}

#[test]
fn d11_the_end_is_the_builders_own_not_that_of_its_log() {
    let outcome = run_words(&["close", "sleep=200", "exit=7"]);
    assert_eq!(outcome.status(), ExitStatus::Code(7));
}

#[test]
fn d11_processes_left_behind_are_gone_when_the_exit_is_reported() {
    let world = World::new();
    run(&world.plan(&["linger=/build/lock"])).assert_success();
    let lock = world.path("builds/x/build/lock");
    assert!(lock.exists());
    assert!(!is_locked(&lock));
}

#[test]
fn s7_killing_takes_a_builder_that_ignores_signals() {
    let world = World::new();
    let builder = launcher().launch(&world.plan(&["linger=/build/a", "stubborn=/build/lock"])).unwrap();
    Log::new(&builder).wait_for("ready");
    let lock = world.path("builds/x/build/lock");
    assert!(is_locked(&lock) && is_locked(&world.path("builds/x/build/a")));
    builder.status.kill();
    let outcome = finish(builder);
    assert_eq!(outcome.status(), ExitStatus::Signal(libc::SIGKILL));
    assert!(!is_locked(&lock) && !is_locked(&world.path("builds/x/build/a")));
}

#[test]
fn s7_the_descriptor_of_the_process_kills_it_too() {
    let world = World::new();
    let builder = launcher().launch(&world.plan(&["stubborn=/build/lock"])).unwrap();
    Log::new(&builder).wait_for("ready");
    let Receipt::Message(StatusMessage::Created { process }) = builder.status.receive().unwrap() else {
        panic!("the first message is about the process");
    };
    rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL).unwrap();
    assert_eq!(finish(builder).status(), ExitStatus::Signal(libc::SIGKILL));
}

#[test]
fn s12_losing_interest_kills() {
    let world = World::new();
    let builder = launcher().launch(&world.plan(&["stubborn=/build/lock"])).unwrap();
    Log::new(&builder).wait_for("ready");
    let lock = world.path("builds/x/build/lock");
    assert!(is_locked(&lock));
    drop(builder);
    wait_until("the builder's end", || !is_locked(&lock));
}

#[test]
fn s12_builders_die_with_the_launcher_that_is_dropped() {
    let world = World::new();
    let launcher = start_launcher();
    let builder = launcher.launch(&world.plan(&["linger=/build/a", "stubborn=/build/lock"])).unwrap();
    Log::new(&builder).wait_for("ready");
    assert!(is_locked(&world.path("builds/x/build/lock")));
    drop(launcher);
    // Dropping waits for the end of it all.
    assert!(!is_locked(&world.path("builds/x/build/lock")));
    assert!(!is_locked(&world.path("builds/x/build/a")));
}

/// The launcher proper is the only child of the guardian.
fn launcher_pid(guardian: u32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{guardian}/task/{guardian}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn kill_hard(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn builders_die_with_a_launcher_that_is_killed() {
    for victim in ["launcher", "guardian"] {
        let world = World::new();
        let launcher = start_launcher();
        let builder = launcher.launch(&world.plan(&["linger=/build/a", "stubborn=/build/lock"])).unwrap();
        Log::new(&builder).wait_for("ready");
        let lock = world.path("builds/x/build/lock");
        assert!(is_locked(&lock));
        let guardian = launcher.guardian_pid();
        let pid =
            if victim == "launcher" { launcher_pid(guardian) } else { i32::try_from(guardian).unwrap() };
        kill_hard(pid);
        wait_until("the builder's end", || !is_locked(&lock) && !is_locked(&world.path("builds/x/build/a")));
        // The engine learns of it: the channel closes without a result, and nothing can be started any more.
        wait_until("the channel's end", || {
            loop {
                match builder.status.receive().unwrap() {
                    // Only a launcher that is left to itself, and not the init of a PID namespace, can still tell.
                    Receipt::Message(StatusMessage::Exited(exit)) => {
                        assert!(victim == "guardian" && !is_root());
                        assert_eq!(exit.status, ExitStatus::Signal(libc::SIGKILL));
                    }
                    Receipt::Message(_) => {}
                    Receipt::Nothing => return false,
                    Receipt::Closed => return true,
                }
            }
        });
        wait_until("the launcher's refusal", || {
            matches!(launcher.launch(&world.plan(&[])), Err(SandboxError::LauncherGone))
        });
    }
}

const ENGINE: &str = "KILN_TEST_ENGINE";

/// Not a test: the engine of the next one, in a process of its own.
#[test]
fn engine_process() {
    let Some(directory) = std::env::var_os(ENGINE) else { return };
    let launcher = start_launcher();
    let plan: LaunchPlan =
        serde_json::from_slice(&std::fs::read(Path::new(&directory).join("plan")).unwrap()).unwrap();
    let builder = launcher.launch(&plan).unwrap();
    Log::new(&builder).wait_for("ready");
    std::fs::write(Path::new(&directory).join("running"), "").unwrap();
    std::thread::sleep(PATIENCE);
}

#[test]
fn builders_die_with_an_engine_that_is_killed() {
    let world = World::new();
    let plan = world.plan(&["linger=/build/a", "stubborn=/build/lock"]);
    std::fs::write(world.path("plan"), plan.to_string()).unwrap();
    let mut engine = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "endings::engine_process"])
        .env(ENGINE, world.directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the builder's start", || world.path("running").exists());
    let locks = [world.path("builds/x/build/a"), world.path("builds/x/build/lock")];
    assert!(locks.iter().all(|lock| is_locked(lock)));
    engine.kill().unwrap();
    engine.wait().unwrap();
    wait_until("the builder's end", || locks.iter().all(|lock| !is_locked(lock)));
}

#[test]
fn d12_cpu_time_of_all_descendants_is_reported() {
    let outcome = run_words(&["burn=150"]);
    let exit = outcome.exit.as_ref().unwrap();
    assert!(exit.user + exit.system >= Duration::from_millis(140), "{exit:?}");
    assert!(exit.user + exit.system < Duration::from_secs(10), "{exit:?}");
    assert!(exit.max_rss > 100_000, "{exit:?}");
    assert_eq!(exit.survivors, 0);
}

#[test]
fn b10_a_builder_that_cannot_be_executed_has_failed_with_code_1() {
    let world = World::new();
    for (builder, reason) in [
        ("/does/not/exist", "No such file or directory"),
        ("/nix/store/input-file", "Permission denied"),
        ("/nix/store/input-directory", "Permission denied"),
    ] {
        let world_for_one = World::new();
        let mut plan = world_for_one.plan(&[]);
        plan.builder = builder.into();
        let outcome = run(&plan);
        assert_eq!(outcome.status(), ExitStatus::Code(1));
        assert_eq!(outcome.log, format!("executing '{builder}': {reason}\n"));
        assert!(outcome.started.is_some());
    }
    drop(world);
}

#[test]
fn b8_the_log_ends_with_eio_and_all_of_it_arrives() {
    let world = World::new();
    let mut words = vec!["cat=/nix/store/builder"; 3];
    words.push("exit=0");
    let outcome = run(&world.plan(&words));
    outcome.assert_success();
    let size = builder_program().len();
    // Raw: no byte is added or changed. The text is lossy, so the bytes are counted by another way.
    let builder = launcher().launch(&World::new().plan(&["env"])).unwrap();
    let log = builder.log.try_clone().unwrap();
    finish(builder);
    let mut byte = [0];
    wait_until("the end of the log", || rustix::io::read(&log, &mut byte) == Err(rustix::io::Errno::IO));
    assert!(outcome.log.len() >= 3 * size);
}
