//! From what a builder left to valid outputs, or to a refusal (O1–O7).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use kiln_testing::{Kiln, Ran, Recipe};
use serde_json::{Value, json};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// Builds what must be refused with status and message, and leave nothing.
#[track_caller]
fn refused(recipe: &Recipe, code: i32, status: &str, message: &str) {
    let kiln = kiln();
    let ran = kiln.build(recipe, &["--json"]);
    assert!(ran.failed(code).contains(message), "{message}: {}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let last = json.as_array().unwrap().last().unwrap();
    assert_eq!((last["status"].as_str().unwrap(), last["success"].as_bool()), (status, Some(false)));
    let mut left = store_names(&kiln);
    left.retain(|name| name.ends_with("-it") || name.ends_with("-it-dev"));
    assert_eq!(left, [""; 0]);
    assert_eq!(kiln.remains(), [""; 0]);
}

/// What is in the store's directory.
fn store_names(kiln: &Kiln) -> Vec<String> {
    let entries = fs::read_dir(kiln.root().join("nix/store")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn rejected(script: &str, message: &str) {
    refused(&Recipe::script(script), 1, "OutputRejected", message);
}

#[test]
fn o1_an_output_must_be_there() {
    let kiln = kiln();
    let recipe = Recipe::script("echo > $out").with("outputs = [\"out\", \"dev\"]");
    let ran = kiln.build(&recipe, &["--json"]);
    let stderr = ran.failed(1);
    let derivation = kiln.instantiate(&recipe);
    assert!(
        stderr.contains(&format!("builder for '{derivation}' failed to produce output path '/nix/store/")),
        "{stderr}"
    );
    assert!(stderr.contains("-it-dev'"), "{stderr}");
    assert!(ran.stdout.contains("OutputRejected"), "{}", ran.stdout);
    rejected("true", "failed to produce output path '/nix/store/");
}

#[test]
fn o1_a_link_that_leads_nowhere_is_an_output() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("ln -s /nowhere/to/be/found $out"), &[]);
    let link = fs::read_link(kiln.real(ran.line())).unwrap();
    assert_eq!(link.to_str(), Some("/nowhere/to/be/found"));
}

#[test]
fn o2_outputs_that_others_can_write_to_are_suspicious() {
    for script in ["mkdir $out; chmod 777 $out", "echo > $out; chmod 664 $out", "mkdir $out; chmod 1775 $out"]
    {
        rejected(script, "suspicious ownership or permission on '/nix/store/");
    }
}

#[test]
fn o3_a_flat_hash_needs_a_plain_file() {
    for script in ["mkdir $out", "echo > $out; chmod 755 $out", "ln -s x $out"] {
        let recipe = Recipe::script(script).fixed("", "flat");
        refused(&recipe, 1, "OutputRejected", "should be a non-executable regular file");
    }
}

/// SHA-256 of `hello\n` as a file.
const HELLO: &str = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";

#[test]
fn o3_fixed_outputs_are_registered_with_their_content_address() {
    let kiln = kiln();
    let recipe = Recipe::script("echo hello > $out").fixed(HELLO, "flat");
    let ran = kiln.build(&recipe, &[]);
    let info = kiln.info(ran.line()).unwrap();
    assert_eq!(info["ca"], "fixed:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq");
    assert_eq!(info["references"], json!([]));
}

#[test]
fn o3_another_hash_fails_and_is_kept_under_the_path_that_it_gives() {
    let kiln = kiln();
    let wrong = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let recipe = Recipe::script("echo hello > $out").fixed(wrong, "flat");
    let ran = kiln.build(&recipe, &["--json"]);
    let stderr = ran.failed(102);
    let derivation = kiln.instantiate(&recipe);
    assert!(
        stderr.contains(&format!("hash mismatch in fixed-output derivation '{derivation}':")),
        "{stderr}"
    );
    let line = |label: &str| {
        let line = stderr.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.unwrap().trim().to_owned()
    };
    assert_eq!((line("specified:").as_str(), line("got:").as_str()), (wrong, HELLO));
    assert!(ran.stdout.contains("HashMismatch"), "{}", ran.stdout);
    // With the right hash there is nothing left to do.
    let right = Recipe::script("exit 1").fixed(HELLO, "flat");
    let ran = kiln.build(&right, &["--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("AlreadyValid"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn o3_a_fixed_output_refers_to_nothing() {
    for script in ["mkdir $out; echo $out > $out/self", "mkdir $out; echo ${dep} > $out/it"] {
        let recipe = Recipe::default()
            .derivation("dep", "echo > $out")
            .derivation("it", &format!("{script}; : ${{dep}}"))
            .fixed("", "recursive");
        refused(
            &recipe,
            1,
            "OutputRejected",
            "illegal path references in fixed-output derivation '/nix/store/",
        );
    }
}

#[test]
fn o4_outputs_become_canonical() {
    let kiln = kiln();
    let script = "mkdir -p $out/dir; echo a > $out/file; chmod 640 $out/file; echo b > $out/program; chmod 4710 $out/program || chmod 710 $out/program\n\
                  ln -s file $out/link; ln $out/file $out/hard; touch -d 1980-01-01 $out/dir; chmod 700 $out/dir";
    let ran = kiln.build(&Recipe::script(script), &[]);
    let root = kiln.real(ran.line());
    let own = fs::metadata("/proc/self").unwrap();
    for (name, mode) in [("", 0o555), ("dir", 0o555), ("file", 0o444), ("program", 0o555), ("hard", 0o444)] {
        let status = fs::symlink_metadata(root.join(name)).unwrap();
        assert_eq!((status.mode() & 0o7777, status.mtime(), status.mtime_nsec()), (mode, 1, 0), "{name}");
        assert_eq!((status.uid(), status.gid()), (own.uid(), own.gid()), "{name}");
    }
    let link = fs::symlink_metadata(root.join("link")).unwrap();
    assert_eq!((link.mtime(), link.uid()), (1, own.uid()));
}

#[test]
fn o4_hard_links_between_outputs_are_fine() {
    let kiln = kiln();
    let recipe = Recipe::script("echo same > $out; ln $out $dev").with("outputs = [\"out\", \"dev\"]");
    let ran = kiln.build(&recipe, &[]);
    let [dev, out] = ran.lines()[..] else { panic!("{}", ran.stdout) };
    assert_eq!((kiln.text(dev), kiln.text(out)), ("same\n".into(), "same\n".into()));
}

#[test]
fn o4_o5_o8_many_outputs_are_read_side_by_side() {
    let names: Vec<String> = (0..12).map(|number| format!("o{number:02}")).collect();
    let outputs = format!("outputs = {names:?}");
    // Each has files in common with the one before, and refers to it.
    let script = "last=; for name in $outputs; do eval path=\\$$name; mkdir $path; echo $last > $path/last\n\
        yes $name | head -c 300000 > $path/own; [ -z \"$last\" ] || ln $last/own $path/linked\n\
        last=$path; done";
    let kiln = kiln().option("auto-optimise-store", "true");
    let ran = kiln.build(&Recipe::script(script).with(&outputs), &["--json"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
    let paths: Vec<&str> =
        json[0]["outputs"].as_object().unwrap().values().map(|path| path.as_str().unwrap()).collect();
    assert_eq!(paths.len(), 12);
    for (last, path) in paths.iter().zip(&paths[1..]) {
        assert_eq!(kiln.info(path).unwrap()["references"], json!([last]));
        let [own, linked] = ["own", "linked"].map(|name| fs::metadata(kiln.real(path).join(name)).unwrap());
        let before = fs::metadata(kiln.real(last).join("own")).unwrap();
        assert_eq!((linked.ino(), linked.mode() & 0o7777, linked.len()), (before.ino(), 0o444, 300_000));
        assert_ne!(own.ino(), linked.ino());
    }
    assert_eq!(kiln.run(["store", "verify", "--check-contents"]).lines(), [""; 0]);
    // Of many that are refused, it is always the first that is told of.
    let script = "for name in $outputs; do eval path=\\$$name; mkdir $path\n\
        case $name in o00|o01) head -c 5000000 /dev/zero > $path/large;; *) mkfifo $path/pipe;; esac; done";
    for _ in 0..3 {
        let ran = self::kiln().build(&Recipe::script(script).with(&outputs), &[]);
        assert!(ran.failed(1).contains("-it-o02/pipe'"), "{}", ran.stderr);
    }
}

#[test]
fn o5_references_are_found_in_contents_names_and_links() {
    let kiln = kiln();
    let recipe = Recipe::default()
        .derivation("content", "echo > $out")
        .derivation("name", "echo > $out")
        .derivation("link", "echo > $out")
        .derivation("unused", "echo > $out")
        .derivation(
            "it",
            "mkdir $out; head -c 70000 /dev/zero > $out/big; echo ${content} >> $out/big; ln -s ${link} $out/link\n\
             touch $out/$(basename ${name}); : ${unused}; echo $out > $out/self",
        );
    kiln.write("kiln.toml", recipe.text());
    let path = |name: &str| kiln.run(["build", "--no-link", &format!(":{name}")]).line().to_owned();
    let it = path("it");
    let mut expected = [path("content"), path("name"), path("link"), it.clone()];
    expected.sort();
    assert_eq!(kiln.info(&it).unwrap()["references"], json!(expected));
}

#[test]
fn o5_hash_and_size_are_those_of_the_archive() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("mkdir $out; head -c 300000 /dev/zero > $out/file"), &[]);
    let path = ran.line();
    let info = kiln.info(path).unwrap();
    let archive = kiln.command(["store", "dump", path]).output().unwrap().stdout;
    assert_eq!(info["narSize"], archive.len());
    let file = kiln.write("archive", &archive);
    let hash = kiln.run(["hash", "file", file.to_str().unwrap()]);
    assert_eq!(info["narHash"], hash.line());
}

/// A derivation that refers to `dep`, which refers to `deeper`.
fn referring(check: &str) -> Recipe {
    Recipe::default()
        .derivation("deeper", "echo > $out")
        .derivation("dep", "echo ${deeper} > $out")
        .derivation("it", "echo ${dep} $out > $out")
        .with(check)
}

#[test]
fn o6_the_references_of_outputs_are_checked() {
    let message = "-it' is not allowed to refer to the following paths:\n";
    for check in [
        "env.allowedReferences = []",
        "env.allowedReferences = [\"out\"]",
        "env.disallowedReferences = [\"${dep}\"]",
        "env.disallowedReferences = [\"out\"]",
        "env.allowedRequisites = [\"${dep}\"]",
        "env.disallowedRequisites = [\"${deeper}\"]",
    ] {
        refused(&referring(check), 1, "OutputRejected", message);
    }
    for check in [
        "env.allowedReferences = [\"out\", \"${dep}\"]",
        "env.allowedRequisites = [\"${dep}\", \"${deeper}\"]",
        "env.disallowedReferences = [\"${deeper}\"]",
    ] {
        let kiln = kiln();
        kiln.write("kiln.toml", referring(check).text());
        kiln.run(["build", "--no-link", ":it"]).line();
    }
    let illegal = "derivation contains an illegal reference specifier 'nonsense'";
    refused(&referring("env.allowedReferences = [\"nonsense\"]"), 1, "OutputRejected", illegal);
}

#[test]
fn o6_structured_checks_count_each_output_by_itself() {
    let structured = |checks: &str| {
        let base = "[derivation.dep]\nbuilder = \"/bin/sh\"\nargs = [\"-c\", \"echo dependency > $out\"]\n\
            [derivation.it]\nbuilder = \"/bin/sh\"\noutputs = [\"out\", \"dev\"]\nstructuredAttrs = true\n\
            args = [\"-c\", \"echo ${dep} > ${placeholder.out}; echo > ${placeholder.dev}\"]\n";
        format!("{base}{checks}")
    };
    let build = |checks: &str| -> Ran {
        let kiln = kiln();
        kiln.write("kiln.toml", structured(checks));
        let ran = kiln.run(["build", "--no-link", "--json", ":it"]);
        assert_eq!(kiln.remains(), [""; 0]);
        ran
    };
    for (checks, message) in [
        ("env.outputChecks.out.maxSize = 100", "is too large at 160 bytes; limit is 100 bytes"),
        ("env.outputChecks.out.maxClosureSize = 200", "closure of path '/nix/store/"),
        (
            "env.outputChecks.out.disallowedReferences = [\"${dep}\"]",
            "is not allowed to refer to the following paths:",
        ),
        (
            "env.outputChecks.out.allowedRequisites = [\"${dep}\"]",
            "is not allowed to refer to the following paths:",
        ),
    ] {
        let ran = build(checks);
        assert!(ran.failed(1).contains(message), "{message}: {}", ran.stderr);
        assert!(ran.stdout.contains("OutputRejected"), "{}", ran.stdout);
    }
    for checks in [
        "env.outputChecks.out.maxSize = 1000",
        "env.outputChecks.dev.allowedReferences = []",
        "env.outputChecks.out.allowedRequisites = [\"out\", \"${dep}\"]",
    ] {
        assert_eq!(build(checks).code, Some(0), "{checks}");
    }
}

#[test]
fn o7_outputs_are_registered_with_all_that_is_known() {
    let kiln = kiln();
    let recipe = Recipe::script("echo $dev > $out; echo > $dev").with("outputs = [\"out\", \"dev\"]");
    let derivation = kiln.instantiate(&recipe);
    let ran = kiln.build(&recipe, &[]);
    let [dev, out] = ran.lines()[..] else { panic!("{}", ran.stdout) };
    let info = kiln.info(out).unwrap();
    assert_eq!(info["deriver"], derivation.as_str());
    assert_eq!(info["ultimate"], true);
    assert_eq!(info["references"], json!([dev]));
    assert_eq!(info["ca"], Value::Null);
    assert_eq!(info["signatures"], json!([]));
    assert!(info["registrationTime"].as_u64().unwrap() > 1_600_000_000);
    assert_eq!(kiln.info(dev).unwrap()["references"], json!([]));
}

#[test]
fn o7_outputs_are_signed_with_the_keys() {
    let kiln = kiln();
    let key = kiln.write(
        "key",
        "test-1:em2298SOR4Z45CLXXDu4mLlanz/x50CIIWg7lA/I+CzrbkuR+mwMLMzQIMcRrWdVFaPVu1/E0GM20Vi2ymMzfQ==",
    );
    let kiln = kiln.option("secret-key-files", key.to_str().unwrap());
    let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
    let info = kiln.info(ran.line()).unwrap();
    let signatures = info["signatures"].as_array().unwrap();
    assert_eq!(signatures.len(), 1);
    assert!(signatures[0].as_str().unwrap().starts_with("test-1:"));
}

#[test]
fn o7_outputs_that_refer_to_each_other_in_a_circle_are_refused() {
    let recipe = Recipe::script("echo $dev > $out; echo $out > $dev").with("outputs = [\"out\", \"dev\"]");
    refused(&recipe, 1, "OutputRejected", "cycle detected in the references of '/nix/store/");
}

/// A script whose output is another one each time.
const CLOCK: &str = "mkdir $out; echo same > $out/same; date +%s.%N > $out/clock";

#[test]
fn d14_what_is_made_the_same_again_passes_a_check() {
    let kiln = kiln();
    let recipe = Recipe::script("echo again > $out");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let before = kiln.info(&path).unwrap();
    let ran = kiln.build(&recipe, &["--check", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("checking outputs of '/nix/store/"), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"Built\""), "{}", ran.stdout);
    assert_eq!(kiln.info(&path).unwrap(), before);
    // The other name of the option.
    assert_eq!(kiln.build(&recipe, &["--rebuild"]).code, Some(0));
}

#[test]
fn d14_what_differs_is_told_and_the_valid_output_is_not_touched() {
    let kiln = kiln();
    let recipe = Recipe::script(CLOCK);
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let (before, clock) = (kiln.info(&path).unwrap(), fs::read(kiln.real(&path).join("clock")).unwrap());
    let ran = kiln.build(&recipe, &["--check", "--json"]);
    let stderr = ran.failed(104);
    let derivation = kiln.instantiate(&recipe);
    let message = format!("derivation '{derivation}' may not be deterministic: output '{path}' differs");
    assert!(stderr.contains(&message), "{stderr}");
    assert!(stderr.contains("clock") && !stderr.contains("same:"), "it says where: {stderr}");
    assert!(ran.stdout.contains("\"NotDeterministic\""), "{}", ran.stdout);
    assert_eq!(kiln.info(&path).unwrap(), before);
    assert_eq!(fs::read(kiln.real(&path).join("clock")).unwrap(), clock);
    let check = format!("{path}.check");
    assert!(!kiln.real(&check).exists(), "nothing is kept unless it is wanted");
}

#[test]
fn d14_what_differs_is_kept_beside_the_output_if_failed_builds_are() {
    let kiln = kiln();
    let recipe = Recipe::script(CLOCK);
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let check = kiln.real(&format!("{path}.check"));
    let mut clocks = Vec::new();
    // The second one takes the place of the first.
    for _ in 0..2 {
        let ran = kiln.build(&recipe, &["--check", "--keep-failed"]);
        assert!(ran.failed(104).contains(&format!("differs from '{path}.check'")), "{}", ran.stderr);
        assert!(ran.stderr.contains("keeping build directory"), "{}", ran.stderr);
        clocks.push(fs::read(check.join("clock")).unwrap());
    }
    assert_ne!(clocks[0], clocks[1]);
    assert_eq!(fs::metadata(check.join("clock")).unwrap().mode() & 0o7777, 0o444, "it is canonical");
    kiln.run(["store", "verify", &path]).lines();
}

#[test]
fn d14_o1_in_a_check_outputs_must_be_there_too_and_stay_where_they_are() {
    let kiln = kiln();
    let again = kiln.write("again", "no");
    let kiln = kiln.option("extra-sandbox-paths", &format!("/again={}", again.display()));
    let script = "[ $(cat /again) = yes ] || echo > $dev; echo > $out";
    let recipe = Recipe::script(script).with("outputs = [\"out\", \"dev\"]");
    kiln.build(&recipe, &[]).lines();
    let names = store_names(&kiln);
    fs::write(&again, "yes").unwrap();
    let ran = kiln.build(&recipe, &["--check"]);
    assert!(ran.failed(1).contains("failed to produce output path '/nix/store/"), "{}", ran.stderr);
    assert_eq!(store_names(&kiln), names);
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Real Nix says the same, word for word.
#[test]
fn d14_o3_a_fixed_output_is_compared_with_the_hash_that_is_stated() {
    let kiln = kiln();
    // What it gives depends on something that no hash knows of.
    let source = kiln.write("content", "hello\n");
    let recipe = Recipe::script("cat /content > $out").fixed(HELLO, "flat");
    let kiln = kiln.option("extra-sandbox-paths", &format!("/content={}", source.display()));
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let (info, names) = (kiln.info(&path), store_names(&kiln));
    let check = ["--check", "--json"];
    assert!(kiln.build(&recipe, &check).stdout.contains("\"Built\""));
    fs::write(&source, "other\n").unwrap();
    let ran = kiln.build(&recipe, &check);
    let derivation = kiln.instantiate(&recipe);
    let message = format!("hash mismatch in fixed-output derivation '{derivation}':");
    for line in [message.as_str(), "specified: sha256-WJG1t", "got:    sha256-fk+i6"] {
        assert!(ran.failed(102).contains(line), "{line}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("may not be deterministic"), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"HashMismatch\""), "{}", ran.stdout);
    assert_eq!((kiln.info(&path), store_names(&kiln)), (info, names), "nothing is registered");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d14_what_is_not_valid_cannot_be_checked() {
    let kiln = kiln();
    let recipe = Recipe::script("echo > $out");
    let ran = kiln.build(&recipe, &["--check"]);
    assert!(ran.failed(1).contains("are not valid, so checking is not possible"), "{}", ran.stderr);
}

#[test]
fn d14_of_several_outputs_each_is_compared() {
    let kiln = kiln();
    let recipe = Recipe::script("echo same > $out; date +%s.%N > $dev; date +%s.%N > $doc")
        .with("outputs = [\"out\", \"dev\", \"doc\"]");
    kiln.build(&recipe, &[]).lines();
    let ran = kiln.build(&recipe, &["--check"]);
    let told: Vec<_> =
        ran.failed(104).lines().filter(|line| line.contains("may not be deterministic")).collect();
    assert_eq!(told.len(), 2, "{}", ran.stderr);
}

#[test]
fn b13_d14_without_a_sandbox_what_a_check_makes_is_rewritten() {
    let kiln = kiln().in_place().option("sandbox", "false");
    let recipe = Recipe::script("mkdir $out; echo $out > $out/self; ln -s $out/self $out/link");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let before = fs::read_dir(kiln.real(&path).parent().unwrap()).unwrap().count();
    let ran = kiln.build(&recipe, &["--check"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("rewriting hashes in '{path}'; cross fingers")), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(kiln.real(&path).join("self")).unwrap().trim(), path);
    let differs = Recipe::script("mkdir $out; echo $out > $out/self; date +%N > $out/clock");
    let path = kiln.build(&differs, &[]).line().to_owned();
    let clock = fs::read(kiln.real(&path).join("clock")).unwrap();
    let told = kiln.build(&differs, &["--check"]);
    let stderr = told.failed(104);
    assert!(stderr.contains("clock") && !stderr.contains("self:"), "it says where: {stderr}");
    assert_eq!(fs::read(kiln.real(&path).join("clock")).unwrap(), clock, "what is valid is not touched");
    let after = fs::read_dir(kiln.real(&path).parent().unwrap()).unwrap().count();
    assert_eq!(after, before + 2, "a derivation and an output, and nothing else");
}

#[test]
fn b13_without_a_sandbox_an_output_that_is_valid_is_not_written_to() {
    let kiln = kiln().in_place().option("sandbox", "false");
    let recipe = Recipe::script("date +%N > $out; echo $out > $dev").with("outputs = [\"out\", \"dev\"]");
    let paths: Vec<String> = kiln.build(&recipe, &[]).lines().into_iter().map(str::to_owned).collect();
    let (dev, out) = (&paths[0], &paths[1]);
    let clock = fs::read(kiln.real(out)).unwrap();
    kiln.forget(dev);
    let ran = kiln.build(&recipe, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(fs::read(kiln.real(out)).unwrap(), clock, "it was valid");
    assert_eq!(fs::read_to_string(kiln.real(dev)).unwrap().trim(), *out, "it refers to what is valid");
    assert_eq!(kiln.info(dev).unwrap()["references"].as_array().unwrap().len(), 1);
}

#[test]
fn d13_a_repeated_build_that_is_the_same_is_built_so_often() {
    let kiln = kiln().option("repeat", "2");
    let recipe = Recipe::script("echo same > $out");
    let ran = kiln.build(&recipe, &["--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for round in ["(round 1/3)", "(round 2/3)", "(round 3/3)"] {
        assert_eq!(ran.stderr.matches(round).count(), 1, "{round}: {}", ran.stderr);
    }
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json[0]["timesBuilt"], 3);
    assert_eq!(json[0]["isNonDeterministic"], false);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d13_l2_the_lines_of_later_rounds_are_shown_if_that_is_wanted() {
    for (wanted, times) in [("true", 2), ("false", 1)] {
        let kiln = kiln().option("repeat", "1").option("print-repeated-builds", wanted);
        let ran = kiln.build(&Recipe::script("echo a line; echo > $out"), &["--print-build-logs"]);
        assert_eq!(ran.stderr.matches("it> a line").count(), times, "{}", ran.stderr);
    }
}

#[test]
fn d13_rounds_that_differ_fail_the_build_and_tell_where() {
    let kiln = kiln().option("repeat", "3");
    let recipe = Recipe::script(CLOCK);
    let ran = kiln.build(&recipe, &["--json"]);
    let stderr = ran.failed(104);
    assert!(stderr.contains("differs from previous round"), "{stderr}");
    assert!(stderr.contains("clock") && !stderr.contains("same:"), "it says where: {stderr}");
    assert!(!stderr.contains("round 3"), "the rest is not built: {stderr}");
    assert!(ran.stdout.contains("\"NotDeterministic\""), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0], "nothing is kept unless it is wanted");
}

#[test]
fn d13_the_first_round_is_kept_if_failed_builds_are() {
    let kiln = kiln().option("repeat", "1");
    let ran = kiln.build(&Recipe::script(CLOCK), &["--keep-failed"]);
    let stderr = ran.failed(104);
    let check = stderr.split('\'').find(|part| part.ends_with(".check")).unwrap().to_owned();
    assert!(stderr.contains(&format!("differs from '{check}' from previous round")), "{stderr}");
    assert!(kiln.real(&check).join("clock").exists());
}

#[test]
fn d13_where_determinism_is_not_enforced_it_is_a_warning() {
    let kiln = kiln().option("repeat", "3").option("enforce-determinism", "false");
    let ran = kiln.build(&Recipe::script(CLOCK), &["--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: output '/nix/store/"), "{}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json[0]["isNonDeterministic"], &json[0]["timesBuilt"]), (&json!(true), &json!(2)));
    let path = kiln.build(&Recipe::script(CLOCK), &[]).line().to_owned();
    assert_eq!(kiln.run(["store", "verify", &path]).code, Some(0), "what is registered is what is there");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d13_a_fixed_output_is_built_once() {
    // What `sha256sum` says of the text "same\n".
    let hash = "sha256:a6328afc76e9db71da297ebff4b0d3e7a7eb3b01d917c05a6573fef121b6ecb6";
    let ran =
        kiln().option("repeat", "2").build(&Recipe::script("echo same > $out").fixed(hash, "flat"), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("round"), "{}", ran.stderr);
}

#[test]
fn d13_builds_without_a_sandbox_are_repeated_too() {
    let kiln = kiln().in_place().option("sandbox", "false").option("repeat", "1");
    let recipe = Recipe::script("echo same > $out");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    assert_eq!(kiln.text(&path), "same\n");
    assert!(kiln.build(&Recipe::script(CLOCK), &[]).failed(104).contains("differs from previous round"));
}
