//! What is asked for, and what is answered (R1–R3, S13).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use kiln_testing::{Kiln, Ran, Recipe};
use serde_json::{Value, json};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

fn statuses(ran: &Ran) -> Vec<String> {
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let all = json.as_array().unwrap().iter();
    all.map(|result| result["status"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn r1_what_will_be_built_is_said_first() {
    let kiln = kiln();
    let recipe = Recipe::default().derivation("dep", "echo > $out").derivation("it", "cat ${dep} > $out");
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", "--dry-run", "--json", ":it"]);
    assert!(ran.stderr.starts_with("these 2 derivations will be built:\n  /nix/store/"), "{}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["willBuild"].as_array().unwrap().len(), 2);
    assert_eq!(json["willSubstitute"], json!([]));
    kiln.run(["build", "--no-link", ":dep"]).line();
    let ran = kiln.run(["build", "--no-link", "--dry-run", "--json", ":it"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["willBuild"].as_array().unwrap().len(), 1, "what is valid is not built");
}

#[test]
fn r1_the_wanted_outputs_are_given_in_the_order_of_targets() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("b", "echo > $out; echo > $dev")
        .with("outputs = [\"out\", \"dev\"]")
        .derivation("a", "echo > $out");
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", ":b.dev", ":a"]);
    let lines = ran.lines();
    assert!(lines.len() == 2 && lines[0].ends_with("-b-dev") && lines[1].ends_with("-a"), "{lines:?}");
}

#[test]
fn r1_failed_targets_are_named_together() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("good", "echo > $out")
        .derivation("one", "exit 1")
        .derivation("two", "exit 2");
    let ran = kiln.build(&recipe, &["--keep-going", "--json"]);
    let stderr = ran.failed(100);
    let summary = stderr.lines().find(|line| line.contains("build of '/nix/store/")).unwrap();
    assert!(
        summary.contains("-one.drv', '/nix/store/") && summary.ends_with("-two.drv' failed"),
        "{summary}"
    );
    assert_eq!(statuses(&ran), ["Built", "PermanentFailure", "PermanentFailure"]);
}

#[test]
fn r1_a_path_that_is_valid_is_a_target() {
    let kiln = kiln();
    let path = kiln.build(&Recipe::script("echo > $out"), &[]).line().to_owned();
    let ran = kiln.run(["build", "--no-link", "--json", &path]);
    assert_eq!(statuses(&ran), ["AlreadyValid"]);
}

#[test]
fn r3_a_path_that_cannot_be_had_is_said_so() {
    let kiln = kiln();
    let path = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nowhere";
    let ran = kiln.run(["build", "--no-link", "--json", path]);
    let message = format!("path '{path}' does not exist and cannot be created");
    assert!(ran.failed(1).contains(&message), "{}", ran.stderr);
    assert_eq!(statuses(&ran), ["NoSubstituters"]);
}

#[test]
fn s13_the_exit_code_tells_the_kinds_of_failures() {
    let wrong = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let failing = |recipe: Recipe| recipe.derivation("failing", "exit 1");
    let slow = |recipe: Recipe| recipe.derivation("slow", "sleep 1000");
    let mismatch = |recipe: Recipe| recipe.derivation("mismatch", "echo > $out").fixed(wrong, "flat");
    let refused = |recipe: Recipe| recipe.derivation("refused", "true");
    let transient = |recipe: Recipe| recipe.derivation("transient", "exit 1").fixed(wrong, "recursive");
    let new = Recipe::default;
    for (recipe, code) in [
        (failing(new()), 100),
        (slow(new()), 101),
        (mismatch(new()), 102),
        (slow(mismatch(new())), 103),
        (refused(new()), 1),
        (transient(new()), 1),
        (failing(refused(transient(new()))), 100),
    ] {
        let ran = kiln().build(&recipe, &["--keep-going", "--timeout", "1", "-j4"]);
        assert_eq!(ran.code, Some(code), "{recipe}\n{}", ran.stderr);
    }
}

#[test]
fn s13_a_check_that_finds_a_difference_has_a_code_of_its_own() {
    let kiln = kiln();
    let shared = kiln.directory().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let kiln = kiln.option("extra-sandbox-paths", &format!("/shared={}", shared.display()));
    let recipe = Recipe::default()
        .derivation("differing", "date +%s.%N > $out")
        .derivation("failing", "[ ! -e /shared/fail ]; echo > $out")
        .derivation("same", "echo > $out");
    kiln.build(&recipe, &[]).lines();
    let ran = kiln.build(&recipe, &["--check", "--keep-going", "--json"]);
    ran.failed(104);
    assert_eq!(statuses(&ran), ["NotDeterministic", "Built", "Built"]);
    std::fs::write(shared.join("fail"), "").unwrap();
    let ran = kiln.build(&recipe, &["--check", "--keep-going", "--json"]);
    ran.failed(108);
    assert_eq!(statuses(&ran), ["NotDeterministic", "PermanentFailure", "Built"]);
}

#[test]
fn s13_a_failure_below_counts_for_what_it_is() {
    let recipe = Recipe::default().derivation("slow", "sleep 1000").derivation("it", "cat ${slow} > $out");
    let kiln = kiln();
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", "--json", "--timeout", "1", ":it"]);
    ran.failed(101);
    assert_eq!(statuses(&ran), ["DependencyFailed"]);
}

#[test]
fn s2_a_goal_tells_how_many_of_its_dependencies_failed() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("one", "exit 1")
        .derivation("two", "exit 1")
        .derivation("good", "echo > $out")
        .derivation("it", "cat ${one} ${two} ${good} > $out");
    kiln.write("kiln.toml", recipe.text());
    let path = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nowhere";
    let ran = kiln.run(["build", "--no-link", "--json", "--keep-going", ":it", ":good", path]);
    ran.failed(100);
    assert_eq!(statuses(&ran), ["DependencyFailed", "Built", "NoSubstituters"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let message = json[0]["errorMsg"].as_str().unwrap();
    assert!(message.contains("2 dependencies couldn't be built"), "{message}");
}

#[test]
fn d9_who_is_at_fault_decides_how_a_start_fails() {
    let script = || Recipe::script("echo > $out");
    let graph = script().with("env.exportReferencesGraph = \"graph /etc\"");
    let platform = script().with("system = \"mips-linux\"");
    let missing = ("sandbox-paths", "/does/not/exist");
    for (recipe, option, status, code) in [
        (graph, None, "InputRejected", 100),
        (platform, None, "InputRejected", 100),
        (script(), Some(missing), "MiscFailure", 1),
    ] {
        let mut kiln = kiln();
        if let Some((name, value)) = option {
            kiln = kiln.option(name, value);
        }
        let ran = kiln.build(&recipe, &["--json"]);
        ran.failed(code);
        assert_eq!(statuses(&ran), [status], "{recipe}\n{}", ran.stderr);
    }
}
