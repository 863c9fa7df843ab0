//! Programs of the user that are run in the course of a build (D16–D18).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kiln_testing::{Kiln, Recipe};

/// With a post-build hook that is this shell script; `$SCRATCH` is the scratch directory.
fn with_hook(script: &str) -> Kiln {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let scratch = kiln.directory().display().to_string();
    let hook = kiln.write("hook", format!("#!/bin/sh\nSCRATCH='{scratch}'\n{script}\n"));
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    kiln.option("post-build-hook", hook.to_str().unwrap())
}

fn two_outputs() -> Recipe {
    Recipe::script("echo > $out; echo > $dev").with("outputs = [\"out\", \"dev\"]")
}

#[test]
fn d18_the_hook_is_told_the_derivation_and_all_its_outputs() {
    let kiln =
        with_hook("echo \"$DRV_PATH|$OUT_PATHS|$HOME\" >> $SCRATCH/told; echo a line; echo another >&2");
    let recipe = two_outputs();
    let ran = kiln.build(&recipe, &["--print-build-logs"]);
    let mut outputs: Vec<String> = ran.lines().into_iter().map(str::to_owned).collect();
    let told = fs::read_to_string(kiln.directory().join("told")).unwrap();
    let told: Vec<&str> = told.trim_end().split('|').collect();
    assert_eq!(told[0], kiln.instantiate(&recipe));
    let mut given: Vec<&str> = told[1].split(' ').collect();
    given.sort_unstable();
    outputs.sort();
    assert!(given.len() == 2 && outputs.iter().all(|output| given.contains(&output.as_str())), "{told:?}");
    assert!(!told[2].is_empty(), "it has the environment of the program");
    assert!(ran.stderr.contains("running post-build-hook '"), "{}", ran.stderr);
    for line in ["it (post)> a line", "it (post)> another"] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
    // What is valid is not built, so that there is nothing to tell.
    kiln.build(&recipe, &[]).lines();
    assert_eq!(fs::read_to_string(kiln.directory().join("told")).unwrap().lines().count(), 1);
}

#[test]
fn d18_a_hook_that_fails_fails_the_build_but_its_outputs_stay_valid() {
    let kiln = with_hook("echo no room; exit 7");
    let recipe = two_outputs();
    let ran = kiln.build(&recipe, &[]);
    let stderr = ran.failed(1);
    assert!(stderr.contains("has failed: exit status: 7"), "{stderr}");
    assert!(stderr.contains("no room"), "{stderr}");
    let without = kiln.option("post-build-hook", "");
    let ran = without.build(&recipe, &["--json"]);
    assert!(ran.stdout.contains("\"AlreadyValid\""), "{}", ran.stdout);
}

#[test]
fn d18_a_hook_that_cannot_be_run_is_said_so() {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("post-build-hook", "/does/not/exist");
    let ran = kiln.build(&two_outputs(), &[]);
    assert!(ran.failed(1).contains("post-build-hook '/does/not/exist' of '"), "{}", ran.stderr);
}

#[test]
fn d18_what_a_hook_leaves_running_holds_up_nobody() {
    let kiln = with_hook("sleep 1000 & echo $! > $SCRATCH/pid");
    kiln.build(&two_outputs(), &[]).lines();
    let pid = fs::read_to_string(kiln.directory().join("pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn d18_a_good_check_is_told_too_and_a_failed_build_is_not() {
    let kiln = with_hook("echo >> $SCRATCH/told");
    let told = || fs::read_to_string(kiln.directory().join("told")).unwrap_or_default().lines().count();
    kiln.build(&Recipe::script("exit 1"), &[]).failed(100);
    assert_eq!(told(), 0);
    kiln.build(&two_outputs(), &[]).lines();
    kiln.build(&two_outputs(), &["--check"]).lines();
    assert_eq!(told(), 2);
}
