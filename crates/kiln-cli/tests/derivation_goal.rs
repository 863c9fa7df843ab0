//! The way of one derivation: how it is loaded, checked, built, and how its end is told (D1–D20).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kiln_testing::{Kiln, Recipe};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// A path that nothing is at.
const NOWHERE: &str = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nowhere";

#[test]
fn d1_a_derivation_that_is_not_in_the_store_cannot_be_built() {
    let kiln = kiln();
    let ran = kiln.run(["build", "--no-link", &format!("{NOWHERE}.drv^*")]);
    assert!(
        ran.failed(1).contains(&format!("cannot build missing derivation '{NOWHERE}.drv'")),
        "{}",
        ran.stderr
    );
}

#[test]
fn d1_an_output_that_the_derivation_lacks_cannot_be_wanted() {
    let kiln = kiln();
    let path = kiln.instantiate(&Recipe::script("echo > $out"));
    let ran = kiln.run(["build", "--no-link", &format!("{path}^dev")]);
    let message = format!("derivation '{path}' does not have wanted outputs 'dev'");
    assert!(ran.failed(1).contains(&message), "{}", ran.stderr);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d2_what_is_valid_is_not_built_again() {
    let kiln = kiln();
    let recipe = Recipe::script("date +%N > $out");
    let first = kiln.build(&recipe, &["--json"]);
    assert!(first.stderr.contains("building '/nix/store/"), "{}", first.stderr);
    let again = kiln.build(&recipe, &["--json"]);
    assert_eq!(again.stderr, "");
    let status = |ran: &kiln_testing::Ran| {
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        json[0]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!((status(&first).as_str(), status(&again).as_str()), ("Built", "AlreadyValid"));
}

#[test]
fn d4_inputs_come_first_and_their_failure_is_the_dependents() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("below", "echo broken; exit 7")
        .derivation("it", "cat ${below} > $out")
        .derivation("above", "cat ${it} > $out");
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", "--json", ":above"]);
    let stderr = ran.failed(100);
    assert!(stderr.contains("-below.drv' failed with exit code 7"), "{stderr}");
    assert!(stderr.contains("could not be built because of them: 2 derivations"), "{stderr}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json[0]["status"], "DependencyFailed");
    let message = json[0]["errorMsg"].as_str().unwrap();
    assert!(message.starts_with("cannot build derivation '/nix/store/"), "{message}");
    assert!(message.ends_with("-above.drv': 1 dependencies couldn't be built"), "{message}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d4_a_missing_source_is_named() {
    let kiln = kiln();
    let recipe = Recipe::script("cat ${source.gone} > $out")
        .with(&format!("[source.gone]\nstorePath = \"{NOWHERE}\""));
    let ran = kiln.build(&recipe, &[]);
    let stderr = ran.failed(1);
    assert!(stderr.contains(&format!("'{NOWHERE}'")), "{stderr}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d5_builders_see_the_closure_of_their_inputs_and_outputs_may_refer_to_it() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("one", "echo one > $out")
        .derivation("two", "echo ${one} > $out")
        .derivation("it", "cat ${two} > $out; cat $(cat ${two}); echo $out >> $out");
    kiln.write("kiln.toml", recipe.text());
    let path = kiln.run(["build", "--no-link", ":it"]).line().to_owned();
    let one = kiln.run(["build", "--no-link", ":one"]).line().to_owned();
    let mut expected = [one, path.clone()];
    expected.sort();
    assert_eq!(kiln.info(&path).unwrap()["references"], serde_json::json!(expected));
}

#[test]
fn d6_leftovers_at_output_paths_are_removed_first() {
    let kiln = kiln();
    let recipe = Recipe::script("mkdir $out; echo new > $out/file");
    let path = kiln.build(&recipe, &["--dry-run", "--json"]);
    assert_eq!(path.code, Some(0));
    let derivation = kiln.instantiate(&recipe);
    let shown = kiln.json(["derivation", "show", "--json-version", "1", &derivation]);
    let output = shown[&derivation]["outputs"]["out"]["path"].as_str().unwrap().to_owned();
    let left = kiln.real(&output);
    fs::create_dir_all(left.join("deep/er")).unwrap();
    fs::write(left.join("deep/er/file"), "old").unwrap();
    fs::set_permissions(left.join("deep"), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(kiln.build(&recipe, &[]).line(), output);
    assert_eq!(fs::read_dir(&left).unwrap().count(), 1);
    assert_eq!(kiln.text(&format!("{output}/file")), "new\n");
}

#[test]
fn d6_only_the_outputs_that_are_missing_are_taken() {
    let kiln = kiln();
    let recipe =
        Recipe::script("echo $RANDOM$(date +%N) > $out; cp $out $dev").with("outputs = [\"out\", \"dev\"]");
    let paths = kiln.build(&recipe, &[]);
    let [dev, out] = paths.lines()[..] else { panic!("{}", paths.stdout) };
    assert_eq!(kiln.text(dev), kiln.text(out));
    let before = kiln.text(out);
    kiln.forget(dev);
    assert_eq!(kiln.build(&recipe, &[]).lines(), [dev, out]);
    assert_eq!(kiln.text(out), before, "what was valid stays as it was");
    assert_ne!(kiln.text(dev), before);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d8_what_cannot_be_built_here_is_refused_with_both_sides_named() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("echo > $out").with("system = \"m68k-sunos\""), &["--json"]);
    let stderr = ran.failed(100);
    assert!(stderr.contains("a 'm68k-sunos' with features {} is required to build '/nix/store/"), "{stderr}");
    assert!(stderr.contains("but I am a '"), "{stderr}");
    assert!(ran.stdout.contains("InputRejected"), "{}", ran.stdout);
    let features = Recipe::script("echo > $out").with("env.requiredSystemFeatures = \"warp-drive\"");
    let ran = kiln.build(&features, &[]);
    let stderr = ran.failed(100);
    assert!(stderr.contains("with features {warp-drive} is required to build"), "{stderr}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d8_extra_platforms_and_system_features_are_accepted() {
    let kiln = kiln();
    let recipe = Recipe::script("echo > $out")
        .with("system = \"m68k-sunos\"\nenv.requiredSystemFeatures = \"warp-drive\"");
    kiln.build(
        &recipe,
        &["--option", "extra-platforms", "m68k-sunos", "--option", "system-features", "warp-drive"],
    )
    .line();
}

#[test]
fn d10_the_start_of_a_build_is_told() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
    let derivation = kiln.info(ran.line()).unwrap()["deriver"].as_str().unwrap().to_owned();
    assert!(ran.stderr.contains(&format!("building '{derivation}'")), "{}", ran.stderr);
}

#[test]
fn d11_a_failed_builder_is_told_with_its_last_lines() {
    let kiln = kiln();
    let recipe = Recipe::script("for i in 1 2 3 4 5 6; do echo line $i; done; printf unfinished; exit 42");
    let ran = kiln.build(&recipe, &["--option", "log-lines", "3"]);
    let stderr = ran.failed(100);
    let derivation = kiln.instantiate(&recipe);
    assert!(stderr.contains(&format!("builder for '{derivation}' failed with exit code 42")), "{stderr}");
    assert!(stderr.contains("last 3 log lines:"), "{stderr}");
    let shown: Vec<&str> = stderr.lines().filter_map(|line| line.trim_start().strip_prefix("> ")).collect();
    assert_eq!(shown, ["line 5", "line 6", "unfinished"], "{stderr}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d11_lines_that_were_shown_live_are_not_repeated() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("echo once; exit 1"), &["-L"]);
    assert_eq!(ran.failed(100).matches("once").count(), 1, "{}", ran.stderr);
}

#[test]
fn d11_a_signal_is_named() {
    let kiln = kiln();
    // A builder is the init of its PID namespace, which no signal from inside ends: it has to fall over by itself.
    kiln.compile("crash", "int main(void) { *(volatile int *)8 = 1; }");
    let ran =
        kiln.build(&Recipe::script("exec ${source.crash}").with("[source.crash]\npath = \"crash\""), &[]);
    let stderr = ran.failed(100);
    assert!(stderr.contains("failed due to signal 11 (Segmentation fault)"), "{stderr}");
}

#[test]
fn d11_the_end_is_the_builders_exit_and_not_that_of_its_log() {
    let kiln = kiln();
    let recipe = Recipe::script("echo first; exec >/dev/null 2>&1; sleep 0.3; echo late > $out");
    assert_eq!(kiln.text(kiln.build(&recipe, &[]).line()), "late\n");
}

#[test]
fn d11_processes_that_hold_the_log_open_do_not_delay_the_end() {
    let kiln = kiln();
    let recipe = Recipe::script("setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & echo done > $out");
    let start = std::time::Instant::now();
    kiln.build(&recipe, &[]).line();
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d11_half_made_outputs_of_a_failed_builder_are_deleted() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("mkdir $out; echo half > $out/file; exit 1"), &[]);
    ran.failed(100);
    assert_eq!(entries(&kiln.root().join("nix/store"), "-it"), [""; 0]);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d12_times_and_processor_use_are_in_the_result() {
    let kiln = kiln();
    let recipe = Recipe::script("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo > $out");
    let ran = kiln.build(&recipe, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let result = &json[0];
    assert_eq!(result["timesBuilt"], 1);
    let (start, stop) = (result["startTime"].as_u64().unwrap(), result["stopTime"].as_u64().unwrap());
    assert!(start > 1_600_000_000 && stop >= start && stop < start + 600, "{result}");
    assert!(result["cpuUser"].as_u64().unwrap() > 0, "{result}");
    assert!(result["cpuSystem"].is_u64(), "{result}");
    assert!(result["isolation"].as_str().unwrap().starts_with("isolated: files, processes"), "{result}");
}

#[test]
fn d12_a_fixed_output_whose_builder_fails_is_transient() {
    let kiln = kiln();
    let recipe = Recipe::script("exit 1").fixed("", "flat");
    let ran = kiln.build(&recipe, &["--json"]);
    ran.failed(1);
    assert!(ran.stdout.contains("TransientFailure"), "{}", ran.stdout);
}

/// The directory that a run said it keeps.
fn kept(stderr: &str) -> PathBuf {
    let line = stderr.lines().find_map(|line| line.split_once("note: keeping build directory '"));
    PathBuf::from(line.unwrap_or_else(|| panic!("{stderr}")).1.trim_end_matches('\''))
}

fn entries(directory: &Path, part: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains(part) && !name.ends_with(".drv")).collect()
}

#[test]
fn d19_the_build_directory_of_a_failed_build_is_kept_readable() {
    let kiln = kiln();
    let recipe = Recipe::script("mkdir dir; echo kept > dir/file; chmod 700 .; exit 1");
    let ran = kiln.build(&recipe, &["--keep-failed"]);
    let directory = kept(ran.failed(100));
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_to_string(directory.join("dir/file")).unwrap(), "kept\n");
    let name = directory.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(name, "nix-build-it.drv-0");
}

#[test]
fn d11_d19_half_made_outputs_are_kept_beside_it_and_belong_to_the_caller() {
    let kiln = kiln();
    let recipe =
        Recipe::script("mkdir $out; echo half > $out/file; chmod 777 $out; chmod 666 $out/file; exit 1");
    let ran = kiln.build(&recipe, &["--keep-failed"]);
    let outer = kept(ran.failed(100)).parent().unwrap().to_path_buf();
    let outputs = entries(&outer.join("outputs"), "-it");
    let [output] = &outputs[..] else { panic!("{outputs:?}") };
    let file = outer.join("outputs").join(output).join("file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "half\n");
    let (status, own) = (fs::metadata(&file).unwrap(), fs::metadata("/proc/self").unwrap());
    assert_eq!((status.uid(), status.mode() & 0o7777), (own.uid(), 0o444));
    assert_eq!(entries(&kiln.root().join("nix/store"), "-it"), [""; 0]);
}

#[test]
fn d19_refused_outputs_and_timeouts_keep_it_too() {
    let kiln = kiln();
    for (script, arguments, code) in [
        ("echo kept > file", &["--keep-failed"][..], 1),
        ("echo kept > file; sleep 1000", &["--keep-failed", "--timeout", "1"], 101),
    ] {
        let ran = kiln.build(&Recipe::script(script), arguments);
        let directory = kept(ran.failed(code));
        assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "kept\n");
    }
}

#[test]
fn d19_after_success_nothing_is_kept() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("echo > file; echo > $out"), &["--keep-failed"]);
    ran.line();
    assert!(!ran.stderr.contains("keeping"), "{}", ran.stderr);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d20_an_error_ends_its_own_goal_only() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("bad", "echo > $out")
        .with("system = \"m68k-sunos\"")
        .derivation("good", "echo > $out");
    let ran = kiln.build(&recipe, &["--keep-going"]);
    ran.failed(100);
    assert!(ran.stdout.trim_end().ends_with("-good"), "{}", ran.stdout);
}
