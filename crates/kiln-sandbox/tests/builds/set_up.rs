//! What can go wrong before there is a builder, and how it is told.

use kiln_sandbox::*;

use crate::support::*;

#[track_caller]
fn failure(plan: &LaunchPlan) -> SetupError {
    let outcome = run(plan);
    assert!(outcome.started.is_none(), "{outcome:?}");
    assert_eq!(outcome.log, "", "set-up errors are not in the log");
    outcome.failed.expect("the set-up must fail")
}

fn map(plan: &mut LaunchPlan, target: &str, source: &str, optional: bool) {
    let path = SandboxPath { target: target.into(), source: source.into(), optional, read_only: false };
    sandbox_of(plan).paths.push(path);
}

#[test]
fn x6_a_missing_path_is_an_error_unless_optional() {
    let world = World::new();
    let mut plan = world.plan(&[]);
    map(&mut plan, "/x", "/does/not/exist", false);
    let error = failure(&plan);
    assert_eq!(error.stage, SetupStage::SandboxPaths);
    assert_eq!(error.errno, Some(libc::ENOENT));
    assert_eq!(
        error.to_string(),
        "while setting up the build environment: while processing 'sandbox-paths': getting attributes of path \
         '/does/not/exist': No such file or directory"
    );
    let world = World::new();
    let mut plan = world.plan(&["ls=/"]);
    map(&mut plan, "/x", "/does/not/exist", true);
    let outcome = run(&plan);
    outcome.assert_success();
    outcome.assert_line("ls /: build dev etc nix proc tmp");
}

#[test]
fn x6_files_directories_and_links_are_mapped_with_their_parents() {
    let world = World::new();
    let mut plan = world.plan(&[
        "cat=/a/b/c/file",
        "cat=/linked/hello",
        "ls=/a",
        "write=/writable/new",
        "write=/read-only/new",
    ]);
    let store = world.path("store");
    std::os::unix::fs::symlink("store/input-directory", world.path("link")).unwrap();
    map(&mut plan, "/a/b/c/file", store.join("input-file").to_str().unwrap(), false);
    map(&mut plan, "/linked", world.path("link").to_str().unwrap(), false);
    map(&mut plan, "/writable", store.join("input-directory").to_str().unwrap(), false);
    map(&mut plan, "/read-only", store.join("input-directory").to_str().unwrap(), false);
    sandbox_of(&mut plan).paths.last_mut().unwrap().read_only = true;
    let outcome = run(&plan);
    outcome.assert_success();
    assert!(outcome.log.starts_with("file\nhello\nls /a: b\nwrite: ok\nwrite: EROFS\n"), "{}", outcome.log);
}

#[test]
fn x6_proc_as_a_source_is_ignored() {
    let world = World::new();
    let mut plan = world.plan(&["ls=/proc"]);
    map(&mut plan, "/proc", "/proc", false);
    let outcome = run(&plan);
    outcome.assert_success();
    assert!(!outcome.log.contains(" 2 "), "{}", outcome.log);
}

#[test]
fn x6_nothing_is_made_in_a_directory_of_the_host() {
    let world = World::new();
    let mut plan = world.plan(&[]);
    let host = world.path("store/input-directory");
    map(&mut plan, "/host", host.to_str().unwrap(), false);
    map(&mut plan, "/host/not/there", "/etc/passwd", false);
    let error = failure(&plan);
    assert_eq!((error.stage, error.errno), (SetupStage::SandboxPaths, Some(libc::EROFS)));
    assert!(!host.join("not").exists());
}

#[test]
fn x6_links_in_what_is_mapped_do_not_lead_out_of_the_sandbox() {
    let world = World::new();
    let directory = world.path("mapped");
    std::fs::create_dir(&directory).unwrap();
    // Seen from the sandbox this is a name in its own root, and there is no such thing there.
    std::os::unix::fs::symlink(world.path("store"), directory.join("out")).unwrap();
    let mut plan = world.plan(&[]);
    map(&mut plan, "/m", directory.to_str().unwrap(), false);
    map(&mut plan, "/m/out/undeclared", "/etc/passwd", false);
    failure(&plan);
    assert_eq!(std::fs::read_to_string(world.path("store/undeclared")).unwrap(), "secret\n");
}

#[test]
fn b12_every_stage_says_which_it_is() {
    type Damage = fn(&mut LaunchPlan);
    let cases: [(&str, Damage, SetupStage); 8] = [
        ("store", |plan| sandbox_of(plan).store.source = "/does/not/exist".into(), SetupStage::Mounts),
        ("tmp", |plan| sandbox_of(plan).temporary_directory = "/does/not/exist".into(), SetupStage::Mounts),
        (
            "input",
            |plan| sandbox_of(plan).store.inputs[0].source = "/does/not/exist".into(),
            SetupStage::Mounts,
        ),
        ("input name", |plan| sandbox_of(plan).store.inputs[0].name = "../x".into(), SetupStage::Mounts),
        ("shm", |plan| sandbox_of(plan).shared_memory_size = "many".into(), SetupStage::Mounts),
        (
            "file",
            |plan| {
                plan.files.push(PlacedFile { name: "a/b".into(), contents: "".into(), mode: 0o644 });
            },
            SetupStage::Files,
        ),
        ("nul", |plan| plan.arguments.push(b"a\0b"[..].into()), SetupStage::Plan),
        ("cgroup", |plan| plan.cgroup = Some("/does/not/exist/x".into()), SetupStage::Cgroup),
    ];
    for (what, damage, stage) in cases {
        let world = World::new();
        let mut plan = world.plan(&[]);
        damage(&mut plan);
        assert_eq!(failure(&plan).stage, stage, "{what}");
    }
}

#[test]
fn b6_a_file_that_is_there_already_is_not_touched() {
    let world = World::new();
    let target = world.path("target");
    std::fs::write(&target, "untouched").unwrap();
    std::os::unix::fs::symlink(&target, world.path("builds/x/build/.attr")).unwrap();
    let mut plan = world.plan(&[]);
    plan.files.push(PlacedFile { name: ".attr".into(), contents: "evil".into(), mode: 0o644 });
    let error = failure(&plan);
    assert_eq!((error.stage, error.errno), (SetupStage::Files, Some(libc::EEXIST)));
    assert_eq!(std::fs::read_to_string(target).unwrap(), "untouched");
}

#[test]
fn b6_a_build_directory_that_is_a_link_is_refused() {
    let world = World::new();
    std::os::unix::fs::symlink(world.path("store"), world.path("link")).unwrap();
    let mut plan = world.plan(&[]);
    plan.build_directory.source = world.path("link").into();
    plan.files.push(PlacedFile { name: "f".into(), contents: "".into(), mode: 0o644 });
    assert_eq!(failure(&plan).stage, SetupStage::Files);
}

#[test]
fn a_build_user_needs_root() {
    if is_root() {
        return;
    }
    let world = World::new();
    let mut plan = world.plan(&[]);
    plan.credentials = Credentials::BuildUser { uid: 12345, gid: 12345, supplementary_groups: vec![] };
    // The terminal can't even be given to that user.
    assert!(matches!(launcher().launch(&plan), Err(SandboxError::Terminal(_))));
}
