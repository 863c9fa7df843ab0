//! What runs when, how often, for how long, and what ends it (S1–S13).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use kiln_testing::{Kiln, Ran, Recipe};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// A directory that builders see as `/shared` and write to, by which they can be watched.
fn with_shared(kiln: Kiln) -> (Kiln, PathBuf) {
    let shared = kiln.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let option = format!("/shared={}", shared.display());
    (kiln.option("extra-sandbox-paths", &option), shared)
}

fn count(directory: &Path, prefix: &str) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with(prefix)).count()
}

/// Tells once more that a builder began.
const COUNT: &str = "mktemp /shared/run.XXXXXX >/dev/null";

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn s1_what_many_need_is_built_once() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = (0..6).fold(
        Recipe::default().derivation("dep", &format!("{COUNT}; sleep 0.2; echo > $out")),
        |recipe, n| recipe.derivation(&format!("user{n}"), "cat ${dep} > $out"),
    );
    assert_eq!(kiln.build(&recipe, &["-j4"]).lines().len(), 7);
    assert_eq!(count(&shared, "run."), 1);
}

#[test]
fn s1_wishes_for_several_outputs_are_one_build() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = Recipe::script(&format!("{COUNT}; sleep 0.2; echo > $out; echo > $dev"))
        .with("outputs = [\"out\", \"dev\"]");
    kiln.write("kiln.toml", recipe.text());
    assert_eq!(kiln.run(["build", "--no-link", ":it.dev", ":it.out", ":it"]).lines().len(), 4);
    assert_eq!(count(&shared, "run."), 1);
}

/// A file in the shared directory in which builders that run [`ORDER`] say which of them began when.
fn with_order(shared: &Path) -> PathBuf {
    let file = shared.join("order");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    file
}

/// Which is ready first is a matter of luck: it takes so long that the others are when it ends.
const ORDER: &str = "first=; [ -s /shared/order ] || first=1; echo $name >> /shared/order\n\
    [ -z \"$first\" ] || sleep 3; echo > $out";

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn s3_what_waits_for_a_slot_goes_in_the_order_of_names() {
    let (kiln, shared) = with_shared(kiln());
    let file = with_order(&shared);
    let names = ["f", "c-2", "a", "e", "c-10", "b", "d"];
    let recipe = names.iter().fold(Recipe::default(), |recipe, name| recipe.derivation(name, ORDER));
    assert_eq!(kiln.build(&recipe, &["-j1"]).lines().len(), names.len());
    let order = lines(&file);
    assert_eq!(order.len(), names.len());
    assert!(order[1..].is_sorted(), "{order:?}");
}

#[test]
fn s3_the_longest_chain_goes_first() {
    let (kiln, shared) = with_shared(kiln());
    let file = with_order(&shared);
    let recipe =
        ["a", "b", "c", "d"].iter().fold(Recipe::default(), |recipe, name| recipe.derivation(name, ORDER));
    let recipe = recipe
        .derivation("z3", ORDER)
        .derivation("z2", &format!(": ${{z3}}; {ORDER}"))
        .derivation("z1", &format!(": ${{z2}}; {ORDER}"));
    assert_eq!(kiln.build(&recipe, &["-j1"]).lines().len(), 7);
    let mut order = lines(&file);
    if order[0] != "z3" {
        order.remove(0);
    }
    assert_eq!(order[..2], ["z3", "z2"]);
    assert_eq!(order.last().unwrap(), "z1", "as long as the others now, and last by its name: {order:?}");
}

#[test]
fn s3_what_took_long_before_goes_first() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = Recipe::default()
        .derivation("a-1", "echo > $out")
        .derivation("b-1", "echo > $out")
        .derivation("slow-1", "sleep 1; echo > $out")
        .derivation("c-1", "echo > $out");
    assert_eq!(kiln.build(&recipe, &["-j4"]).lines().len(), 4);
    let file = with_order(&shared);
    let names = ["a-2", "b-2", "slow-2", "c-2"];
    let recipe = names.iter().fold(Recipe::default(), |recipe, name| recipe.derivation(name, ORDER));
    assert_eq!(kiln.build(&recipe, &["-j1"]).lines().len(), 4);
    let order = lines(&file);
    assert!(order[..2].contains(&"slow-2".to_owned()), "{order:?}");
}

#[test]
fn s4_no_more_builds_run_than_there_are_slots() {
    let (kiln, shared) = with_shared(kiln());
    let script = format!(
        "{COUNT}; touch /shared/now.$name; ls /shared | grep -c '^now' > /shared/seen.$name; sleep 0.2; rm /shared/now.$name; echo > $out"
    );
    let recipe = (0..5).fold(Recipe::default(), |recipe, n| recipe.derivation(&format!("d{n}"), &script));
    assert_eq!(kiln.build(&recipe, &["-j2"]).lines().len(), 5);
    let seen = (0..5).map(|n| fs::read_to_string(shared.join(format!("seen.d{n}"))).unwrap());
    let most = seen.map(|text| text.trim().parse::<usize>().unwrap()).max().unwrap();
    assert_eq!(most, 2, "two at once, and never three");
}

#[test]
fn s5_the_first_failure_ends_the_request() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("slow", "sleep 1000; echo > $out")
        .derivation("failing", "sleep 0.3; exit 1")
        .derivation("never", "cat ${failing} > $out");
    let start = Instant::now();
    let ran = kiln.build(&recipe, &["-j4", "--json"]);
    assert!(start.elapsed() < Duration::from_secs(60));
    let stderr = ran.failed(100);
    assert!(stderr.contains("-failing.drv' failed with exit code 1"), "{stderr}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let slow = json
        .as_array()
        .unwrap()
        .iter()
        .find(|result| result["drvPath"].as_str().unwrap().ends_with("-slow.drv"));
    assert_eq!(slow.unwrap()["status"], "MiscFailure");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn s5_keep_going_finishes_what_it_can_and_reports_all() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("one", "exit 1")
        .derivation("two", "exit 2")
        .derivation("good", "sleep 0.2; echo > $out")
        .derivation("above", "cat ${good} ${one} ${two} > $out")
        .derivation("also", "cat ${good} > $out");
    let ran = kiln.build(&recipe, &["--keep-going", "-j2", "--json"]);
    let stderr = ran.failed(100);
    for message in ["-one.drv' failed with exit code 1", "-two.drv' failed with exit code 2"] {
        assert_eq!(stderr.matches(message).count(), 1, "{stderr}");
    }
    assert!(stderr.contains("could not be built because of them: 1 derivation\n"), "{stderr}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let status = |name: &str| {
        let end = format!("-{name}.drv");
        let all = json.as_array().unwrap().iter();
        let mut found = all.filter(|result| result["drvPath"].as_str().unwrap().ends_with(&end));
        found.next().unwrap()["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        ["one", "two", "good", "above", "also"].map(status),
        ["PermanentFailure", "PermanentFailure", "Built", "DependencyFailed", "Built"]
    );
    let above =
        json.as_array().unwrap().iter().find(|result| result["status"] == "DependencyFailed").unwrap();
    assert!(above["errorMsg"].as_str().unwrap().ends_with("2 dependencies couldn't be built"), "{above}");
}

#[test]
fn s6_programs_that_want_the_same_build_it_once() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = Recipe::script(&format!("{COUNT}; sleep 1; echo > $out"));
    kiln.instantiate(&recipe);
    let children: Vec<Child> = (0..4).map(|_| kiln.start_build(&recipe, &["--json"])).collect();
    let statuses: Vec<String> = children
        .into_iter()
        .map(|child| {
            let ran = Ran::from(child);
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let json: Value = serde_json::from_str(&ran.stdout).unwrap();
            json[0]["status"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(count(&shared, "run."), 1);
    assert_eq!(statuses.iter().filter(|status| *status == "Built").count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| *status == "AlreadyValid").count(), 3, "{statuses:?}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn s6_when_the_other_one_fails_the_next_one_builds() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = Recipe::script(&format!(
        "{COUNT}; test -e /shared/second || {{ touch /shared/second; sleep 1; exit 1; }}; echo > $out"
    ));
    let first = kiln.start_build(&recipe, &[]);
    kiln.wait_for(&shared.join("second"));
    let second = kiln.start_build(&recipe, &[]);
    Ran::from(first).failed(100);
    Ran::from(second).line();
    assert_eq!(count(&shared, "run."), 2);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn s7_a_build_that_takes_too_long_is_killed() {
    let kiln = kiln();
    let script = "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; while :; do echo noise; sleep 0.1; done') & while :; do echo busy; sleep 0.1; done";
    let recipe = Recipe::script(script);
    let ran = kiln.build(&recipe, &["--timeout", "1", "--json"]);
    let stderr = ran.failed(101);
    let derivation = kiln.instantiate(&recipe);
    assert!(stderr.contains(&format!("building of '{derivation}' timed out after 1 seconds")), "{stderr}");
    assert!(!stderr.contains("of silence"), "{stderr}");
    assert!(ran.stdout.contains("TimedOut"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn s7_a_build_that_is_silent_for_too_long_is_killed() {
    let kiln = kiln();
    let recipe = Recipe::script("echo first; sleep 0.6; echo second; sleep 1000");
    let ran = kiln.build(&recipe, &["--max-silent-time", "1"]);
    let stderr = ran.failed(101);
    assert!(stderr.contains("timed out after 1 seconds of silence"), "{stderr}");
    assert!(stderr.contains("> second"), "{stderr}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn s8_a_build_that_says_too_much_is_killed() {
    let kiln = kiln();
    let recipe = Recipe::script("while :; do echo 0123456789; done");
    let ran = kiln.build(&recipe, &["--option", "max-build-log-size", "10000", "--json"]);
    let stderr = ran.failed(1);
    let derivation = kiln.instantiate(&recipe);
    let message = format!("'{derivation}' killed after writing more than 10000 bytes of log output");
    assert!(stderr.contains(&message), "{stderr}");
    assert!(ran.stdout.contains("LogLimitExceeded"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
    let enough = Recipe::script("echo 0123456789; echo > $out");
    kiln.build(&enough, &["--option", "max-build-log-size", "11"]).line();
}

#[test]
fn s10_counters_are_told_as_they_change() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("good", "echo > $out")
        .derivation("bad", "sleep 0.3; exit 1")
        .derivation("above", "cat ${bad} > $out");
    let ran = kiln.build(&recipe, &["--keep-going", "--log-format", "internal-json"]);
    let lines = ran.failed(100).lines().filter_map(|line| line.strip_prefix("@nix "));
    let records: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let builds = records.iter().find(|record| record["type"] == 104 && record["action"] == "start").unwrap();
    let progress: Vec<Vec<u64>> = records
        .iter()
        .filter(|record| {
            record["type"] == 105 && record["action"] == "result" && record["id"] == builds["id"]
        })
        .map(|record| serde_json::from_value(record["fields"].clone()).unwrap())
        .collect();
    let [done, expected, running, failed] = progress.last().unwrap()[..] else { panic!("{progress:?}") };
    assert_eq!((done, running, failed), (1, 0, 1), "{progress:?}");
    assert!(expected >= done, "{progress:?}");
    assert!(progress.iter().any(|counts| counts[1] == 3), "three were expected: {progress:?}");
    assert!(progress.iter().any(|counts| counts[2] == 1), "one was running: {progress:?}");
}

#[test]
fn s11_without_slots_nothing_can_be_built() {
    let kiln = kiln();
    let recipe = Recipe::default().derivation("dep", "echo > $out").derivation("it", "cat ${dep} > $out");
    let ran = kiln.build(&recipe, &["--max-jobs", "0"]);
    assert!(
        ran.failed(1).contains(
            "2 derivations need to be built, but neither local builds ('--max-jobs') nor remote builds ('--builders') are enabled"
        ),
        "{}",
        ran.stderr
    );
    kiln.build(&recipe, &[]).lines();
    assert_eq!(kiln.build(&recipe, &["--max-jobs", "0"]).lines().len(), 2, "what is valid needs no slot");
}

/// A recipe whose builder says in `/shared` that it runs, and does so for ever, with children.
fn endless() -> Recipe {
    Recipe::script("mkdir $out; setsid sleep 1000 & sleep 1000 & touch /shared/runs; sleep 1000")
}

#[test]
fn s12_an_interrupt_takes_everything_along() {
    for name in [Signal::INT, Signal::TERM] {
        let (kiln, shared) = with_shared(kiln());
        let child = kiln.start_build(&endless(), &[]);
        kiln.wait_for(&shared.join("runs"));
        assert_ne!(kiln.processes(), [""; 0]);
        signal(&child, name);
        let ran = Ran::from(child);
        assert!(ran.failed(1).contains("interrupted by the user"), "{}", ran.stderr);
        assert_eq!(kiln.remains(), [""; 0]);
        let store = fs::read_dir(kiln.root().join("nix/store")).unwrap();
        let names = store.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.ends_with("-it")).count(), 0);
    }
}

#[test]
fn s12_who_waits_for_a_lock_can_be_interrupted_too() {
    let (kiln, shared) = with_shared(kiln());
    let recipe =
        Recipe::script("touch /shared/runs; while ! test -e /shared/go; do sleep 0.05; done; echo > $out");
    let first = kiln.start_build(&recipe, &[]);
    kiln.wait_for(&shared.join("runs"));
    let second = kiln.start_build(&recipe, &["--log-format", "internal-json"]);
    std::thread::sleep(Duration::from_millis(700));
    signal(&second, Signal::INT);
    Ran::from(second).failed(1);
    fs::write(shared.join("go"), "").unwrap();
    Ran::from(first).line();
    assert_eq!(without_temporary_roots(kiln.remains()), [""; 0]);
}

/// A process that ends while a thread of it waits for a lock leaves its temporary roots to the next collector.
fn without_temporary_roots(remains: Vec<String>) -> Vec<String> {
    remains.into_iter().filter(|name| !name.starts_with("temproots/")).collect()
}

#[test]
fn s12_an_engine_that_is_killed_leaves_nothing_running_and_nothing_valid() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = Recipe::script(
        "mkdir $out; setsid sleep 1000 & touch /shared/runs; test -e /shared/go || sleep 1000; echo > $out/done",
    );
    let child = kiln.start_build(&recipe, &[]);
    kiln.wait_for(&shared.join("runs"));
    signal(&child, Signal::KILL);
    assert_eq!(Ran::from(child).code, None);
    kiln.wait_until("the builders are gone", || kiln.processes().is_empty());
    assert_eq!(
        count(&kiln.root().join("nix/var/nix/builds"), "nix-build-"),
        1,
        "nobody was left to remove it"
    );
    fs::write(shared.join("go"), "").unwrap();
    let ran = kiln.build(&recipe, &["--json"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json[0]["status"], "Built", "{}", ran.stderr);
    assert_eq!(without_temporary_roots(kiln.remains()), [""; 0], "the next engine cleans up");
}

#[test]
fn s12_without_a_sandbox_nothing_half_made_stays_in_the_store() {
    let kiln = kiln().in_place().option("sandbox", "false");
    let shared = kiln.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let script = format!("mkdir $out; setsid sleep 1000 & touch {}/runs; sleep 1000", shared.display());
    let child = kiln.start_build(&Recipe::script(&script), &[]);
    kiln.wait_for(&shared.join("runs"));
    signal(&child, Signal::INT);
    Ran::from(child).failed(1);
    let names = fs::read_dir(kiln.root().join("nix/store")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.any(|name| name.ends_with("-it")));
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn s12_d19_an_interrupted_build_is_kept_if_failed_ones_are() {
    let (kiln, shared) = with_shared(kiln());
    let recipe = Recipe::script("echo kept > file; echo half > $out; touch /shared/runs; sleep 1000");
    let child = kiln.start_build(&recipe, &["--keep-failed"]);
    kiln.wait_for(&shared.join("runs"));
    signal(&child, Signal::INT);
    let ran = Ran::from(child);
    let outer = kiln.root().join("nix/var/nix/builds/nix-build-it.drv-0");
    let note = format!("note: keeping build directory '{}'", outer.join("build").display());
    assert!(ran.failed(1).contains(&note), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(outer.join("build/file")).unwrap(), "kept\n");
    assert_eq!(count(&outer.join("outputs"), ""), 1);
    assert_eq!(kiln.processes(), [""; 0]);
    // Kept is kept: the next engine leaves it alone.
    kiln.build(&Recipe::default().derivation("other", "echo > $out"), &[]).line();
    assert!(outer.join("build/file").exists());
}
