//! What the machine offers.

use kiln_sandbox::*;

use crate::support::*;

#[test]
fn capabilities_are_probed_one_by_one() {
    let capabilities = launcher().probe().unwrap();
    eprintln!("{capabilities}");
    assert_eq!(capabilities.to_string().lines().count(), 10);
    // The other tests of this file's crate need it.
    capabilities.sandbox_supported().unwrap();
    assert!(capabilities.has(Capability::SystemCallFilter));
}

/// A cgroup2 directory in which a test may make others, if this machine has one.
fn cgroup_parent() -> Option<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let parent = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| std::path::PathBuf::from(point))
    });
    let parent = parent.filter(|parent| rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok());
    if parent.is_none() {
        eprintln!("NOT TESTED, because no cgroup2 hierarchy may be written to: cgroups of builds");
    }
    parent
}

#[test]
fn a_cgroup_gathers_counts_and_goes() {
    let Some(parent) = cgroup_parent() else { return };
    let cgroup = parent.join(format!("kiln-test-{}", std::process::id()));
    let world = World::new();
    let mut plan = world.plan(&["cat=/proc/self/cgroup", "burn=120"]);
    plan.cgroup = Some(cgroup.clone().into());
    // One that is left over is no obstacle.
    std::fs::create_dir(&cgroup).unwrap();
    let outcome = run(&plan);
    outcome.assert_success();
    assert!(outcome.started.as_ref().unwrap().cgroup);
    let name = cgroup.file_name().unwrap().to_str().unwrap();
    assert!(outcome.log.contains(name), "{}", outcome.log);
    let exit = outcome.exit.unwrap();
    assert!(exit.user + exit.system >= std::time::Duration::from_millis(100), "{exit:?}");
    assert!(!cgroup.exists());
}

#[test]
fn a_cgroup_is_killed_as_a_whole() {
    let Some(parent) = cgroup_parent() else { return };
    let cgroup = parent.join(format!("kiln-test-kill-{}", std::process::id()));
    let world = World::new();
    let mut plan = world.unsandboxed(&["linger=a", "stubborn=lock"]);
    plan.cgroup = Some(cgroup.clone().into());
    let builder = launcher().launch(&plan).unwrap();
    Log::new(&builder).wait_for("ready");
    builder.status.kill();
    assert_eq!(finish(builder).status(), ExitStatus::Signal(libc::SIGKILL));
    assert!(!is_locked(&world.path("builds/x/build/a")));
    assert!(!cgroup.exists());
}

#[test]
fn b7_processes_of_a_build_user_are_killed_wherever_they_are() {
    if !needs_root("killing the processes of another user") {
        return;
    }
    let world = World::new();
    let lock = world.path("builds/x/build/lock");
    let plan = world.unsandboxed(&[]);
    let mut stray = std::process::Command::new("setpriv")
        .args([&format!("--reuid={}", world.uid), "--regid=99000", "--clear-groups"])
        .arg(plan.builder.as_path())
        .arg(format!("stubborn={}", lock.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the stray process", || is_locked(&lock));
    launcher().kill_processes_of(world.uid).unwrap();
    assert!(!is_locked(&lock));
    stray.wait().unwrap();
    // There is none left, and that is no error.
    launcher().kill_processes_of(world.uid).unwrap();
}

#[test]
fn b7_the_engines_own_processes_are_never_killed() {
    let own = rustix::process::getuid().as_raw();
    for uid in [0, own] {
        let error = launcher().kill_processes_of(uid).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot kill the processes of build user {uid}: ")));
    }
}

#[test]
fn b9_builders_get_the_limit_of_open_files_that_the_engine_has() {
    let world = World::new();
    let log = run(&world.plan(&["cat=/proc/self/limits"])).log;
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = |text: &str| text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    assert_eq!(line(&log), line(&own));
}
