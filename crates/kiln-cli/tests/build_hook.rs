//! The build hook (H1–H4): one of the tests' own at the other end, `data/build-hook.py`, that does what it is told to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use kiln_testing::{Kiln, Ran, Recipe};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const HOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/build-hook.py");

/// With the hook, in a mode, and with a machine that it could send builds to.
fn with_hook(mode: &str) -> Kiln {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    // Where it is compiled, not everybody may read.
    let hook = kiln.write("build-hook.py", fs::read(HOOK).unwrap());
    let words = ["python3", hook.to_str().unwrap(), &kiln.root().display().to_string()];
    let command = format!("{} {} {mode}", words.join(" "), kiln.directory().display());
    kiln.option("build-hook", &command).option("builders", "ssh://machine - - 1 1")
}

/// The same where nothing can be built here.
fn only_hook(mode: &str) -> Kiln {
    with_hook(mode).option("max-jobs", "0")
}

/// What the hooks were told, and did, of one kind.
fn told(kiln: &Kiln, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(kiln.directory().join("told")).unwrap_or_default();
    let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
    values.filter(|value: &Value| value["kind"] == kind).collect()
}

fn names(values: &[Value]) -> Vec<&str> {
    values.iter().map(|value| value["name"].as_str().unwrap()).collect()
}

fn assert_nothing_is_left(kiln: &Kiln) {
    assert_eq!(kiln.remains(), [""; 0]);
}

/// The log of a derivation's last build.
fn log(kiln: &Kiln, derivation: &str) -> String {
    let ran = kiln.run(["log", derivation]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

fn touch(kiln: &Kiln, name: &str) {
    kiln.write(name, "");
}

fn chain() -> Recipe {
    Recipe::default()
        .derivation("a", "echo a > $out")
        .derivation("b", "cat ${a} > $out")
        .derivation("c", "cat ${b} > $out")
}

fn pid(value: &Value) -> Pid {
    Pid::from_raw(value.as_i64().unwrap().try_into().unwrap()).unwrap()
}

/// Whether there is no such process, or only a number that its parent has not asked for: in containers, the first process may
/// never do that for those that it inherits.
fn has_ended(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status.map_or(true, |status| status.lines().any(|line| line.starts_with("State:\tZ")))
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
}

#[test]
fn h1_one_hook_is_kept_and_asked_about_each_derivation() {
    let kiln = with_hook("decline extra").option("cores", "3");
    let recipe = chain().with("env.requiredSystemFeatures = \"nixos-test benchmark\"");
    let ran = kiln.build(&recipe, &["-j1", "-v"]);
    assert_eq!(ran.lines().len(), 3, "what it declines is built here");
    let started = told(&kiln, "start");
    assert_eq!(started.len(), 1);
    let start = &started[0];
    assert_eq!(start["arguments"], json!(["decline", "extra", "4"]), "the verbosity is the last");
    assert_eq!(start["descriptors"], json!([0, 1, 2, 4, 5]));
    assert_eq!((&start["directory"], &start["leads"]), (&json!("/"), &json!(true)));
    assert_eq!(start["home"], json!(kiln.directory()), "it has the environment of the program");
    let settings = &told(&kiln, "settings")[0]["settings"];
    let expected =
        [("cores", "3"), ("max-jobs", "1"), ("builders", "ssh://machine - - 1 1"), ("keep-going", "false")];
    for (name, value) in expected {
        assert_eq!(settings[name], value, "{name}");
    }
    assert_eq!(settings["store"], format!("local?root={}", kiln.root().display()));
    assert!(settings.as_object().unwrap().len() > 70);
    let asked = told(&kiln, "try");
    let name = |name: &&str| name[..1].to_owned();
    assert_eq!(names(&asked).iter().map(name).collect::<Vec<_>>(), ["a", "b", "c"]);
    let system = format!("{}-linux", std::env::consts::ARCH);
    assert!(asked.iter().all(|asked| asked["willing"] == 1 && asked["system"] == *system));
    assert_eq!(asked[2]["features"], json!(["benchmark", "nixos-test"]));
    assert!(ran.stderr.contains("no machine for a.drv"), "{}", ran.stderr);
    assert_nothing_is_left(&kiln);
    // Where there is nothing to build there is nobody to ask.
    kiln.build(&recipe, &[]).lines();
    assert_eq!(told(&kiln, "start").len(), 1);
}

#[test]
fn h2_a_hook_that_accepts_gets_the_inputs_and_the_missing_outputs() {
    let kiln = only_hook("accept");
    kiln.write("source.txt", "a file");
    let recipe = "[source.file]\npath = \"source.txt\"\n".to_owned()
        + Recipe::default()
            .derivation("dep", "cat ${source.file} > $out")
            .derivation("it", "cat ${dep} > $out")
            .with("outputs = [\"out\", \"dev\"]")
            .text();
    let ran = kiln.build(&recipe, &["--print-build-logs"]);
    let outputs: Vec<String> = ran.lines().into_iter().map(str::to_owned).collect();
    let work = told(&kiln, "work");
    assert_eq!((work.len(), told(&kiln, "surplus").len()), (2, 0), "what it is told has an end");
    let inputs = |index: usize| work[index]["inputs"].as_array().unwrap();
    assert!(inputs(0)[0].as_str().unwrap().ends_with("-source.txt"), "{work:?}");
    assert!(inputs(1).len() == 2 && inputs(1).contains(&inputs(0)[0]), "the closure: {work:?}");
    assert!(inputs(1).iter().any(|path| path.as_str().unwrap().ends_with("-dep")), "{work:?}");
    assert_eq!((&work[0]["outputs"], &work[1]["outputs"]), (&json!(["out"]), &json!(["dev", "out"])));
    // H4: what the hook has registered is as it has registered it, and nothing else is.
    for output in outputs.iter().filter(|path| path.contains("-it")) {
        let name = if output.ends_with("-dev") { "dev" } else { "out" };
        assert_eq!(kiln.text(output).lines().last(), Some(name));
        assert_eq!(kiln.info(output).unwrap()["ultimate"], json!(false), "it was not made here");
    }
    let verified = kiln.run(["store", "verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    // Each build that is accepted has a hook of its own.
    assert_eq!(told(&kiln, "start").len(), 2);
    assert_nothing_is_left(&kiln);
}

#[test]
fn d10_h2_what_is_said_of_a_build_is_shown_and_stored() {
    let kiln = only_hook("accept");
    let recipe = Recipe::script("never");
    let ran = kiln.build(&recipe, &["--print-build-logs"]);
    let derivation = kiln.instantiate(&recipe);
    let building = format!("building '{derivation}' on 'ssh://machine'...");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    for line in [&*building, "it> raw line", "it> raw end", "it> told line", "a message of the hook"] {
        assert_eq!(lines.iter().filter(|shown| **shown == line).count(), 1, "{line}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("no record"), "{}", ran.stderr);
    let log = log(&kiln, &derivation);
    // On two ways at once, each in its own order.
    let record = "@nix {\"action\":\"setPhase\",\"phase\":\"checkPhase\"}\n";
    assert!(log.contains("told line\n") && log.contains(record), "{log}");
    assert_eq!(log.replace("told line\n", "").replace(record, ""), "raw line\nraw end");

    let kiln = only_hook("accept");
    let ran = kiln.build(&recipe, &["--log-format", "internal-json"]);
    let records: Vec<Value> = ran
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line.strip_prefix("@nix ").unwrap()).unwrap())
        .collect();
    let starts = |number: u64| {
        records.iter().filter(move |record| record["type"] == number && record["action"] == "start")
    };
    let builds: Vec<&Value> = starts(105).collect();
    assert_eq!(builds.len(), 1, "the machine's is the same");
    assert_eq!(builds[0]["fields"], json!([derivation, "ssh://machine", 1, 1]));
    assert_eq!(starts(104).count(), 1, "builds are counted once");
    let of_build = |number: u64| {
        let results =
            records.iter().filter(move |record| record["type"] == number && record["action"] == "result");
        results
            .filter(|record| record["id"] == builds[0]["id"])
            .map(|record| record["fields"][0].clone())
            .collect::<Vec<_>>()
    };
    let mut told_lines = of_build(101);
    told_lines.sort_by_key(|line| line.as_str().unwrap().to_owned());
    assert_eq!(told_lines, ["raw end", "raw line", "told line"]);
    assert_eq!(of_build(104), ["checkPhase"]);
}

#[test]
fn d18_the_post_build_hook_is_run_for_what_a_hook_has_built() {
    let kiln = only_hook("accept");
    let script = format!("#!/bin/sh\necho \"$DRV_PATH $OUT_PATHS\" > {}/post\n", kiln.directory().display());
    let post = kiln.write("post-build", script);
    fs::set_permissions(&post, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kiln = kiln.option("post-build-hook", post.to_str().unwrap());
    let recipe = Recipe::script("never");
    let output = kiln.build(&recipe, &[]).line().to_owned();
    let derivation = kiln.instantiate(&recipe);
    assert_eq!(
        fs::read_to_string(kiln.directory().join("post")).unwrap(),
        format!("{derivation} {output}\n")
    );
}

#[test]
fn h1_one_that_declines_for_good_is_asked_once() {
    let kiln = with_hook("decline-permanently");
    assert_eq!(kiln.build(&chain(), &[]).lines().len(), 3);
    assert_eq!((told(&kiln, "start").len(), told(&kiln, "try").len()), (1, 1));
    let kiln = only_hook("decline-permanently");
    let stderr = kiln.build(&chain(), &[]).failed(1).to_owned();
    let message = "unable to start any build; remote machines may not have all required system features";
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn d6_h1_what_is_postponed_waits_until_something_ends_and_holds_nothing() {
    let kiln = only_hook("accept-one").option("build-poll-interval", "1000");
    let recipe = Recipe::default().derivation("a", "never").derivation("b", "never").derivation("c", "never");
    let start = Instant::now();
    let child = kiln.start_build(&recipe, &["--log-format", "internal-json"]);
    kiln.wait_until("two are postponed", || told(&kiln, "postponed").len() == 2);
    assert_eq!(
        (told(&kiln, "work").len(), told(&kiln, "start").len()),
        (1, 2),
        "one hook waits for its next question"
    );
    let locks = || {
        let names =
            fs::read_dir(kiln.root().join("nix/store")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".lock")).count()
    };
    kiln.wait_until("only the outputs of the first are locked", || locks() == 1);
    touch(&kiln, "go");
    let ran = Ran::from(child);
    assert_eq!(ran.lines().len(), 3);
    assert!(start.elapsed() < Duration::from_secs(500));
    assert!(ran.stderr.contains("waiting for a machine to build '"), "{}", ran.stderr);
    // Each end has woken one, and not all.
    assert!(told(&kiln, "postponed").len() <= 4, "{:?}", told(&kiln, "postponed"));
    assert!(told(&kiln, "try").iter().all(|asked| asked["willing"] == 0));
    assert_nothing_is_left(&kiln);
}

#[test]
fn h1_what_is_postponed_is_offered_again_after_the_interval() {
    let kiln = only_hook("postpone-twice").option("build-poll-interval", "1");
    let start = Instant::now();
    kiln.build(&Recipe::script("never"), &[]).line();
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!((told(&kiln, "start").len(), told(&kiln, "try").len()), (1, 3), "the same hook is asked");
}

#[test]
fn s4_builds_on_the_hook_take_no_slot() {
    let kiln = with_hook("accept-one").option("build-poll-interval", "1000");
    // The hook's one machine takes the first, and the one slot here the second: the third has nowhere to go.
    let script = "echo > $out";
    let recipe = Recipe::default().derivation("a", "never").derivation("b", script).derivation("c", script);
    let child = kiln.start_build(&recipe, &["-j1"]);
    kiln.wait_until("one is built there", || told(&kiln, "work").len() == 1);
    kiln.wait_until("others are offered", || told(&kiln, "postponed").len() >= 2);
    let asked = told(&kiln, "try");
    assert!(asked.iter().all(|asked| asked["willing"] == 1), "the slot is free all the time: {asked:?}");
    touch(&kiln, "go");
    assert_eq!(Ran::from(child).lines().len(), 3);
}

#[test]
fn d7_d8_what_must_be_or_wants_to_be_here_is_not_offered() {
    let kiln = with_hook("decline");
    let recipe = Recipe::script("echo > $out").with("env.preferLocalBuild = \"1\"");
    kiln.build(&recipe, &[]).line();
    kiln.build(&recipe, &["--check"]).line();
    assert_eq!(told(&kiln, "start").len(), 0);
    let ran = kiln.build(&recipe, &["--max-jobs", "0", "--rebuild"]);
    assert_eq!((ran.code, told(&kiln, "start").len()), (Some(0), 0), "{}", ran.stderr);
}

#[test]
fn d7_d8_what_cannot_be_built_here_is_offered_first() {
    let kiln = with_hook("accept");
    let recipe = Recipe::script("never").with(
        "system = \"riscv64-linux\"\nenv.preferLocalBuild = \"1\"\nenv.requiredSystemFeatures = \"warp\"",
    );
    kiln.build(&recipe, &[]).line();
    let asked = told(&kiln, "try");
    assert_eq!((&asked[0]["system"], &asked[0]["features"]), (&json!("riscv64-linux"), &json!(["warp"])));
    let declined = with_hook("decline");
    let stderr = declined.build(&recipe, &[]).failed(100).to_owned();
    assert!(stderr.contains("a 'riscv64-linux' with features {warp} is required to build '"), "{stderr}");
    assert_eq!(told(&declined, "try").len(), 1);
}

#[test]
fn h3_a_hook_that_dies_before_its_answer_is_survived() {
    for (mode, why) in [
        ("die-at-once", "it has ended with exit code 9: cannot go on"),
        ("die-before-question", "it has ended with exit code 9"),
        ("die-when-asked", "it has ended with exit code 9: lost my way"),
        ("die-killed", "it was killed by signal 9"),
        ("die-without-machine", "it has ended with exit code 9"),
        ("close", "it has closed its output"),
    ] {
        let kiln = with_hook(mode);
        let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
        assert_eq!(ran.code, Some(0), "{mode}: {}", ran.stderr);
        let message = format!("build hook died unexpectedly: {why}");
        assert!(ran.stderr.contains(&message), "{mode}: {}", ran.stderr);
        // L4: what it says does not reach the terminal as it is.
        assert!(!ran.stderr.contains("\x1b]"), "{mode}: {:?}", ran.stderr);
        assert_nothing_is_left(&kiln);
        let message = "unable to start any build; remote machines may not have all required system features";
        let stderr =
            kiln.option("max-jobs", "0").build(&Recipe::script("echo >> $out"), &[]).failed(1).to_owned();
        assert!(stderr.contains(message), "{mode}: {stderr}");
    }
}

#[test]
fn h3_hooks_that_always_die_are_given_up() {
    let kiln = with_hook("die-at-once");
    let recipe =
        (0..8).fold(Recipe::default(), |recipe, n| recipe.derivation(&format!("d{n}"), "echo > $out"));
    let ran = kiln.build(&recipe, &[]);
    assert_eq!(ran.lines().len(), 8);
    assert_eq!(told(&kiln, "start").len(), 5);
    assert!(ran.stderr.contains("the build hook has died 5 times in a row"), "{}", ran.stderr);
}

#[test]
fn h3_a_hook_that_dies_in_a_build_fails_it() {
    for (mode, code, why) in [
        ("die-before-work", 1, "failed with exit code 9"),
        ("exit 1", 1, "failed with exit code 1"),
        ("exit 100", 100, "failed with exit code 100"),
        ("exit 101", 101, "failed with exit code 101"),
        ("exit 102", 102, "failed with exit code 102"),
        ("exit 104", 104, "failed with exit code 104"),
        ("half-made", 1, "failed due to signal 9 (Killed)"),
    ] {
        let kiln = with_hook(mode);
        let recipe = Recipe::script("echo > $out");
        let stderr = kiln.build(&recipe, &[]).failed(code).to_owned();
        let message = format!("builder for '{}' {why}", kiln.instantiate(&recipe));
        assert!(stderr.contains(&message), "{mode}: {stderr}");
        if mode.starts_with("exit") {
            assert!(stderr.contains("the last line"), "{mode}: {stderr}");
        }
        assert_nothing_is_left(&kiln);
        for made in told(&kiln, "half-made") {
            assert!(!kiln.real(made["path"].as_str().unwrap()).exists(), "what is not valid is deleted");
        }
    }
}

#[test]
fn h4_a_hook_must_register_what_it_has_built() {
    let kiln = with_hook("exit 0");
    let recipe = Recipe::script("echo > $out");
    let stderr = kiln.build(&recipe, &[]).failed(1).to_owned();
    let message = format!(
        "the build of '{}' on 'ssh://machine' has succeeded, but its output '",
        kiln.instantiate(&recipe)
    );
    assert!(stderr.contains(&message) && stderr.contains("' is not valid here"), "{stderr}");
}

#[test]
fn h1_an_answer_that_nobody_understands_is_an_error() {
    use std::fmt::Write as _;
    // "# maybe", and before it lines of all sorts, in base 64, since the words of the setting have no blanks.
    let kiln = with_hook("say AP8KIyAKIyBtYXliZQo=");
    let mut shown = String::new();
    write!(shown, "{}", kiln.build(&Recipe::script("echo > $out"), &[]).failed(1)).unwrap();
    assert!(shown.contains("bad hook reply ''"), "{shown}");
    let kiln = with_hook("say bm9ybWFsIGxpbmUKQG5peCB7CiMgbWF5YmUK");
    let stderr = kiln.build(&Recipe::script("echo > $out"), &[]).failed(1).to_owned();
    for message in ["bad hook reply 'maybe'", "normal line", "@nix {"] {
        assert!(stderr.contains(message), "{message}: {stderr}");
    }
    assert_nothing_is_left(&kiln);
}

#[test]
fn h1_an_endless_line_ends_the_hook() {
    let kiln = with_hook("endless-line");
    let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("build hook killed: it has said more than"), "{}", ran.stderr);
    assert_nothing_is_left(&kiln);
}

#[test]
fn s8_the_limit_on_logs_holds_for_both_ways_of_a_hook() {
    for mode in ["loud", "loud records"] {
        let kiln = only_hook(mode).option("max-build-log-size", "100000");
        let recipe = Recipe::script("never");
        let stderr = kiln.build(&recipe, &[]).failed(1).to_owned();
        let message = format!(
            "'{}' killed after writing more than 100000 bytes of log output",
            kiln.instantiate(&recipe)
        );
        assert!(stderr.contains(&message), "{mode}: {stderr}");
        assert_nothing_is_left(&kiln);
    }
}

#[test]
fn s12_an_interrupt_takes_the_hook_along() {
    let kiln = only_hook("half-made hang");
    let child = kiln.start_build(&Recipe::script("never"), &[]);
    kiln.wait_for(&kiln.directory().join("hangs"));
    let below = pid(&told(&kiln, "child")[0]["child"]);
    assert!(!has_ended(below));
    interrupt(&child);
    assert!(Ran::from(child).failed(1).contains("interrupted by the user"));
    assert_nothing_is_left(&kiln);
    kiln.wait_until("its children are gone", || has_ended(below));
    let path = told(&kiln, "half-made")[0]["path"].as_str().unwrap().to_owned();
    assert!(!kiln.real(&path).exists(), "what is not valid is deleted");
}

#[test]
fn s12_who_waits_for_a_machine_can_be_interrupted() {
    let kiln = only_hook("accept-one").option("build-poll-interval", "1000");
    touch(&kiln, "machine");
    let child = kiln.start_build(&Recipe::script("never"), &[]);
    kiln.wait_until("it is postponed", || told(&kiln, "postponed").len() == 1);
    interrupt(&child);
    Ran::from(child).failed(1);
    assert_nothing_is_left(&kiln);
}

#[test]
fn h3_what_a_hook_leaves_running_holds_up_nobody() {
    for mode in ["leave-child", "close-and-stay"] {
        let kiln = only_hook(mode);
        let start = Instant::now();
        let ran = kiln.build(&Recipe::script("never"), &[]);
        assert!(start.elapsed() < Duration::from_secs(100));
        let code = if mode == "leave-child" { 0 } else { 1 };
        assert_eq!(ran.code, Some(code), "{mode}: {}", ran.stderr);
        assert_nothing_is_left(&kiln);
        for child in told(&kiln, "child") {
            kiln.wait_until("its children are gone", || has_ended(pid(&child["child"])));
        }
    }
}

#[test]
fn h1_a_hook_that_cannot_be_started_is_said_so() {
    for (hook, why) in
        [("/does/not/exist", "No such file"), ("no-such-hook", "it is not in PATH"), ("/dev/null", "denied")]
    {
        let kiln = with_hook("decline").option("build-hook", hook);
        let ran = kiln.build(&chain(), &[]);
        assert_eq!(ran.lines().len(), 3);
        let message = format!("cannot start the build hook '{hook}': ");
        assert_eq!(ran.stderr.matches(&message).count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
}

#[test]
fn s11_without_machines_or_a_hook_nothing_is_built_elsewhere() {
    let message = "1 derivations need to be built, but neither local builds ('--max-jobs') nor remote builds ('--builders') are";
    for (builders, hook) in [("", None), ("@/does/not/exist", None), ("ssh://machine", Some(""))] {
        let kiln = only_hook("accept").option("builders", builders);
        let kiln = match hook {
            Some(hook) => kiln.option("build-hook", hook),
            None => kiln,
        };
        let stderr = kiln.build(&Recipe::script("never"), &[]).failed(1).to_owned();
        assert!(stderr.contains(message), "{stderr}");
        assert_eq!(told(&kiln, "start").len(), 0);
    }
}

#[test]
fn h1_machines_that_nobody_understands_are_said_so() {
    let kiln = with_hook("decline").option("builders", "ssh://machine - - many");
    let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
    ran.line();
    assert!(ran.stderr.contains("bad machine specification: "), "{}", ran.stderr);
}
