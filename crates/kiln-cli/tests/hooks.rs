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
    with_the_hook("post-build-hook", script)
}

fn with_the_hook(setting: &str, script: &str) -> Kiln {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let scratch = kiln.directory().display().to_string();
    let hook = kiln.write("hook", format!("#!/bin/sh\nSCRATCH='{scratch}'\n{script}\n"));
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    kiln.option(setting, hook.to_str().unwrap())
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

/// A script whose output is another one each time.
const CLOCK: &str = "mkdir $out; echo same > $out/same; date +%s.%N > $out/clock";

/// A diff hook that tells what it was given, and who it is.
const TELLING: &str = "cat $1/clock $2/clock > /dev/null && echo \"$1|$2|$3|$(pwd)|$(id -u)\"; ls -d \"$4\"";

/// The line of the hook, and the directory that it was given.
fn told<'a>(stderr: &'a str, derivation: &str) -> (Vec<&'a str>, &'a str) {
    let mut lines = stderr.lines().skip_while(|line| !line.contains(&format!("|{derivation}|")));
    (lines.next().unwrap().split('|').collect(), lines.next().unwrap())
}

#[test]
fn d16_the_diff_hook_sees_what_a_check_has_made() {
    let kiln = with_the_hook("diff-hook", TELLING).option("run-diff-hook", "true");
    let recipe = Recipe::script(CLOCK);
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let ran = kiln.build(&recipe, &["--check"]);
    let stderr = ran.failed(104);
    let (words, directory) = told(stderr, &kiln.instantiate(&recipe));
    assert_eq!(words[0], kiln.real(&path).to_str().unwrap());
    assert_eq!(words[1], format!("{}.check", kiln.real(&path).display()));
    assert_eq!(words[3], "/");
    assert!(directory.contains("nix-build-it.drv-"), "{stderr}");
    // It is no one that could do harm: not root, if there are build users.
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(words[4] == rustix::process::geteuid().as_raw().to_string(), !is_root, "{stderr}");
    assert!(kiln.real(&format!("{path}.check")).exists());
}

#[test]
fn d16_the_diff_hook_sees_rounds_that_differ() {
    let kiln = with_the_hook("diff-hook", TELLING).option("run-diff-hook", "true").option("repeat", "1");
    let recipe = Recipe::script(CLOCK);
    let ran = kiln.build(&recipe, &[]);
    let stderr = ran.failed(104);
    let (words, _) = told(stderr, &kiln.instantiate(&recipe));
    assert_eq!(words[0], format!("{}.check", words[1]), "the first round is the old one");
    assert!(!std::path::Path::new(words[1]).exists(), "what is not valid does not stay");
    let accepted = kiln.option("enforce-determinism", "false");
    let path = accepted.build(&recipe, &[]).line().to_owned();
    accepted.run(["store", "verify", &path]).lines();
}

#[test]
fn d16_a_diff_hook_that_fails_changes_nothing() {
    let kiln = with_the_hook("diff-hook", "exit 3").option("run-diff-hook", "true");
    let recipe = Recipe::script(CLOCK);
    kiln.build(&recipe, &[]).line();
    let ran = kiln.build(&recipe, &["--check"]);
    let stderr = ran.failed(104);
    assert!(stderr.contains("diff hook execution failed: diff-hook program '"), "{stderr}");
    assert!(stderr.contains("exit status: 3"), "{stderr}");
}

#[test]
fn d17_the_pre_build_hook_adds_to_what_the_sandbox_shows() {
    let script = "echo \"$1|$2\" > $SCRATCH/given; echo shown > $SCRATCH/shown; echo to the user >&2\n\
        echo extra-sandbox-paths; echo /shown=$SCRATCH/shown; echo";
    let kiln = with_the_hook("pre-build-hook", script);
    let recipe = Recipe::script("cat /shown > $out");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    assert_eq!(kiln.text(&path), "shown\n");
    let given = fs::read_to_string(kiln.directory().join("given")).unwrap();
    let derivation = kiln.instantiate(&recipe);
    let chroot = format!("{}.chroot", kiln.real(&derivation).display());
    assert_eq!(given.trim_end(), format!("{derivation}|{chroot}"));
}

#[test]
fn d17_what_a_pre_build_hook_may_not_say_fails_the_build() {
    for (script, message) in [
        ("echo make-coffee", "unknown pre-build hook command 'make-coffee'"),
        ("exit 4", "exit status: 4"),
        ("yes | head -c 3000000", "prints more than"),
    ] {
        let kiln = with_the_hook("pre-build-hook", script);
        let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
        assert!(ran.failed(1).contains(message), "{}", ran.stderr);
        assert_eq!(kiln.remains(), [""; 0]);
    }
}
