//! Builds without a sandbox: the host's world, but still nothing that outlives them.

use kiln_sandbox::*;

use crate::support::*;

#[test]
fn b6_without_a_sandbox_the_build_directory_is_the_real_one() {
    let world = World::new();
    let outcome = run(&world.unsandboxed(&["cwd", "descriptors", "identity", "write=file"]));
    outcome.assert_success();
    outcome.assert_line(&format!("cwd {}", world.path("builds/x/build").display()));
    let identity = outcome.log.lines().find(|line| line.starts_with("uid ")).unwrap();
    assert!(identity.starts_with(&format!("uid {} gid {}", world.uid, world.gid)), "{identity}");
    outcome.assert_line("write: ok");
    outcome.assert_line("descriptors: 0 1 2");
    let isolation = outcome.started.unwrap();
    assert!(!isolation.files && !isolation.network && !isolation.users && isolation.system_calls);
    assert_eq!(isolation.processes, is_root());
    assert_eq!(isolation.build_user, is_root());
}

#[test]
fn b7_supplementary_groups_are_kept_without_a_sandbox_and_dropped_within() {
    if !needs_root("supplementary groups of a build user") {
        return;
    }
    for (sandboxed, expected) in [(false, "groups 2"), (true, "groups 0")] {
        let world = World::new();
        let mut plan = if sandboxed { world.plan(&["identity"]) } else { world.unsandboxed(&["identity"]) };
        plan.credentials = Credentials::BuildUser {
            uid: world.uid,
            gid: world.gid,
            supplementary_groups: vec![world.gid, world.gid + 1],
        };
        let outcome = run(&plan);
        assert!(outcome.log.contains(expected), "{}", outcome.log);
    }
}

#[test]
fn d11_without_a_sandbox_no_process_is_left_either() {
    let world = World::new();
    run(&world.unsandboxed(&["linger=lock"])).assert_success();
    assert!(world.path("builds/x/build/lock").exists());
    assert!(!is_locked(&world.path("builds/x/build/lock")));
}

#[test]
fn d11_without_a_sandbox_killing_takes_all() {
    let world = World::new();
    let builder = launcher().launch(&world.unsandboxed(&["linger=a", "stubborn=lock"])).unwrap();
    Log::new(&builder).wait_for("ready");
    assert!(is_locked(&world.path("builds/x/build/a")));
    builder.status.kill();
    let outcome = finish(builder);
    assert_eq!(outcome.status(), ExitStatus::Signal(libc::SIGKILL));
    assert_eq!(outcome.exit.unwrap().survivors, 0);
    assert!(!is_locked(&world.path("builds/x/build/a")) && !is_locked(&world.path("builds/x/build/lock")));
}

#[test]
fn d11_without_a_sandbox_exit_codes_and_signals_come_back() {
    let world = World::new();
    assert_eq!(run(&world.unsandboxed(&["exit=9"])).status(), ExitStatus::Code(9));
    // A signal to itself is ignored by an init, and deadly for others.
    let expected = if is_root() { ExitStatus::Code(0) } else { ExitStatus::Signal(libc::SIGTERM) };
    assert_eq!(run(&world.unsandboxed(&["kill=15"])).status(), expected);
}

#[test]
fn d12_cpu_time_is_that_of_all_descendants_without_a_sandbox_too() {
    let world = World::new();
    let exit = run(&world.unsandboxed(&["burn=150"])).exit.unwrap();
    assert!(exit.user + exit.system >= std::time::Duration::from_millis(140), "{exit:?}");
}

/// A launcher that is root, but may not create namespaces, as in most containers.
fn launcher_in_a_container(directory: &std::path::Path) -> Launcher {
    use std::os::unix::fs::PermissionsExt;
    let wrapper = directory.join("launcher");
    let program = env!("CARGO_BIN_EXE_kiln-launcher");
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-sys_admin {program} \"$@\"\n");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    Launcher::start_program(&wrapper).unwrap()
}

#[test]
fn b7_d11_root_in_a_container_kills_by_user_and_by_descent() {
    if !needs_root("a launcher that is root without CAP_SYS_ADMIN") {
        return;
    }
    let world = World::new();
    let launcher = launcher_in_a_container(world.directory.path());
    // A process of the build user from before, which nobody collects.
    let stray = world.path("builds/x/build/stray");
    let plan = world.unsandboxed(&["linger=a", "identity"]);
    let mut earlier = std::process::Command::new("setpriv")
        .args([&format!("--reuid={}", world.uid), "--regid=99000", "--clear-groups"])
        .arg(world.path("store/builder"))
        .arg(format!("stubborn={}", stray.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the earlier process", || is_locked(&stray));
    let outcome = finish(launcher.launch(&plan).unwrap());
    outcome.assert_success();
    let isolation = outcome.started.as_ref().unwrap();
    assert!(isolation.build_user && !isolation.processes && isolation.system_calls, "{isolation}");
    assert!(outcome.log.contains(&format!("uid {} gid {}", world.uid, world.gid)), "{}", outcome.log);
    assert_eq!(outcome.exit.unwrap().survivors, 0);
    assert!(!is_locked(&stray) && !is_locked(&world.path("builds/x/build/a")));
    earlier.wait().unwrap();
}
