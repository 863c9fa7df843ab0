//! Garbage, roots, optimising and verifying, side by side with real Nix on copies of the same store, and beside it on the
//! same one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_testing::{Kiln, Ran, Recipe, SharedStore};

fn store() -> Option<SharedStore> {
    SharedStore::find(env!("CARGO_BIN_EXE_kiln"))
        .map(|store| store.option("sandbox", "false").option("max-jobs", "3"))
}

/// Runs a collection by Nix, or what looks for roots as one does. It looks at every process of the machine, and Nix 2.8
/// gives up if one of them has a directory with a very long path open: then it is tried again, as such processes are other
/// tests.
fn nix_gc(store: &SharedStore, arguments: &[&str]) -> BTreeSet<String> {
    for _ in 0..100 {
        let output = store.nix().output("nix-store", [&["--gc"], arguments].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        if !errors.contains("File name too long") {
            assert!(output.status.success(), "{errors}");
            return String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("Nix could not look at all processes of the machine for 20 seconds");
}

fn lines(ran: &Ran) -> BTreeSet<String> {
    ran.lines().into_iter().map(str::to_owned).collect()
}

/// Derivations that need each other, most of them built, some rooted in all ways there are.
fn populate(store: &SharedStore) -> Vec<String> {
    let derivations = store.instantiate(
        r#"
        let mk = name: script: more: derivation ({
              inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
              args = [ "-ec" script ]; } // more);
            text = builtins.toFile "text" "some text";
            lower = mk "lower" "mkdir $out $dev; echo same > $out/a; echo same > $out/b; echo same > $dev/a; echo $text > $out/t"
              { inherit text; outputs = [ "out" "dev" ]; };
            upper = mk "upper" "mkdir $out; echo same > $out/a; echo $lower > $out/refs; ln -s a $out/l" { inherit lower; };
            other = mk "other" "mkdir $out; echo $dev > $out/refs; ln -s a $out/l; echo x > $out/x; chmod +x $out/x" { dev = lower.dev; };
            dead = mk "dead" "echo $other > $out" { inherit other; };
            unbuilt = mk "unbuilt" "exit 1" { inherit dead; };
        in [ upper other dead unbuilt ]"#,
    );
    store.build(&derivations[..3])
}

/// Roots are the same, and so is what is alive and dead, whatever the settings.
#[test]
fn both_take_the_same_for_garbage() {
    let Some(store) = store() else { return };
    let outputs = populate(&store);
    let gcroots = store.nix().state_dir().join("gcroots");
    let directory = store.directory().to_owned();
    store.nix_lines(
        "nix-store",
        ["--realise", &outputs[0], "--indirect", "--add-root", directory.join("result").to_str().unwrap()],
    );
    symlink(format!("{}/x", outputs[1]), gcroots.join("inside")).unwrap();
    symlink("/nonexistent", gcroots.join("dangling")).unwrap();
    symlink(directory.join("result"), directory.join("second")).unwrap();
    symlink(directory.join("second"), gcroots.join("two-steps")).unwrap();
    fs::create_dir_all(gcroots.join("a/b")).unwrap();
    symlink(&outputs[0], gcroots.join("a/b/c")).unwrap();
    let real = store.nix().store_dir();
    let litter = || {
        for name in ["junk", ".hidden", "tmp-2147483647-1"] {
            fs::write(real.join(name), "junk").unwrap();
        }
    };
    fs::write(format!("{}.lock", outputs[2]), "").unwrap();
    fs::write(real.join("00000000000000000000000000000000-invalid"), "invalid").unwrap();

    let lasting = |roots: BTreeSet<String>| -> BTreeSet<String> {
        // What processes of the machine hold comes and goes, as do both programs.
        roots.into_iter().filter(|root| !root.starts_with("/proc") && !root.starts_with("{temp")).collect()
    };
    let roots = lasting(nix_gc(&store, &["--print-roots"]));
    assert_eq!(lasting(lines(&store.kiln(["roots"]))), roots);
    assert_eq!(lasting(lines(&store.kiln(["gc", "--print-roots"]))), roots);
    assert!(roots.len() >= 3, "{roots:?}");

    for (outputs, derivations) in [("false", "true"), ("true", "true"), ("false", "false"), ("true", "false")]
    {
        let settings = ["--option", "keep-outputs", outputs, "--option", "keep-derivations", derivations];
        litter();
        let dead = nix_gc(&store, &[&["--print-dead"][..], &settings].concat());
        let alive = nix_gc(&store, &[&["--print-live"][..], &settings].concat());
        litter();
        let dry_run = lines(&store.kiln([&["gc", "--dry-run"][..], &settings].concat()));
        // Nix 2.8 deletes what isn't called like a path although it is only asked, and so it has gone the next time.
        assert_eq!(dry_run, dead, "keep-outputs = {outputs}, keep-derivations = {derivations}");
        let counted = store.kiln([&["gc", "--dry-run", "--json"][..], &settings].concat());
        let counted: serde_json::Value = serde_json::from_str(&counted.stdout).unwrap();
        assert_eq!(counted["alive"], alive.len());
    }

    litter();
    store.save();
    nix_gc(&store, &[]);
    let expected = store.contents();
    store.go_back();
    let ran = store.kiln(["gc", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let found = store.contents();
    assert_eq!((&found.rows, &found.files, &found.locks), (&expected.rows, &expected.files, &expected.locks));
    store.verify();
    let again: serde_json::Value = serde_json::from_str(&store.kiln(["gc", "--json"]).stdout).unwrap();
    assert_eq!((&again["paths"], &again["bytesFreed"]), (&serde_json::json!([]), &serde_json::json!(0)));
}

/// What outputs a derivation has whose paths follow from their content is on record elsewhere. Nix 2.8 takes them for alive, and
/// yet deletes those that it comes across before their derivation; so its list of what is alive is what counts.
#[test]
fn both_keep_outputs_that_realisations_name() {
    let Some(store) = store() else { return };
    let store = store.option("experimental-features", "nix-command ca-derivations");
    let derivations = store.instantiate(
        r#"
        let mk = name: more: derivation ({
              inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
              __contentAddressed = true; outputHashAlgo = "sha256"; outputHashMode = "recursive";
              args = [ "-ec" "echo $name $lower > $out" ]; } // more);
            lower = mk "lower" { outputs = [ "out" "dev" ]; args = [ "-ec" "echo lower > $out; echo dev > $dev" ]; };
            upper = mk "upper" { lower = lower.dev; };
            unrooted = mk "unrooted" { };
            unbuilt = mk "unbuilt" { };
        in [ upper unrooted unbuilt ]"#,
    );
    store.build(&derivations[..2]);
    let gcroots = store.nix().state_dir().join("gcroots");
    for (name, derivation) in [("upper", &derivations[0]), ("unbuilt", &derivations[2])] {
        symlink(derivation, gcroots.join(name)).unwrap();
    }
    let all: BTreeSet<String> = lines(&store.kiln(["store", "query", "--all"]));
    let mut kept = Vec::new();
    for outputs in ["false", "true"] {
        let settings = ["--option", "keep-outputs", outputs];
        let alive = nix_gc(&store, &[&["--print-live"][..], &settings].concat());
        let dead = lines(&store.kiln([&["gc", "--dry-run"][..], &settings].concat()));
        assert_eq!(dead, all.difference(&alive).cloned().collect(), "keep-outputs = {outputs}");
        kept.push(alive.len());
    }
    assert!(kept[1] >= kept[0] + 3, "{kept:?}");
    assert_eq!(store.kiln(["gc", "--option", "keep-outputs", "true"]).code, Some(0));
    assert_eq!(lines(&store.kiln(["store", "query", "--all"])).len(), kept[1]);
    store.verify();
}

/// The pool is laid out in the same way, whoever does it, and each takes the other's.
#[test]
fn both_share_files_in_the_same_way() {
    let Some(store) = store() else { return };
    populate(&store);
    let layout = || store.hard_links();
    store.save();
    store.nix_lines("nix-store", ["--optimise"]);
    let expected = (layout(), store.contents());
    assert!(expected.0.iter().any(|names| names.len() > 3), "{expected:?}");
    assert_eq!(store.kiln(["store", "optimise", "--json"]).code, Some(0));
    assert_eq!((layout(), store.contents()), expected, "there was nothing left to do");
    store.go_back();
    let ran = store.kiln(["store", "optimise", "--json"]);
    let optimised: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(optimised["filesLinked"].as_u64().unwrap() > 2, "{optimised}");
    assert_eq!((layout(), store.contents()), expected);
    store.verify();
    // Without any paths nothing is left in the pool.
    nix_gc(&store, &[]);
    assert!(layout().is_empty());
}

/// Duplicates are linked as outputs come in, and the pool is as real Nix would have made it.
#[test]
fn o8_outputs_are_optimised_as_they_come_in() {
    let Some(store) = store() else { return };
    let store = store.option("auto-optimise-store", "true");
    let outputs = populate(&store);
    let inode =
        |file: String| fs::symlink_metadata(&file).unwrap_or_else(|error| panic!("{file}: {error}")).ino();
    let references = fs::read_to_string(format!("{}/refs", outputs[0])).unwrap();
    let lower = references.trim();
    assert_eq!(inode(format!("{}/a", outputs[0])), inode(format!("{lower}/a")));
    assert_eq!(inode(format!("{lower}/b")), inode(format!("{lower}/a")));
    assert_eq!(inode(format!("{}/l", outputs[0])), inode(format!("{}/l", outputs[1])));
    let before = store.contents();
    let count = || fs::read_dir(store.nix().store_dir().join(".links")).unwrap().count();
    let entries = count();
    let said = store.nix().output("nix-store", ["--optimise"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("0.00 MiB freed by hard-linking 0 files"), "{said}");
    assert_eq!((store.contents(), count()), (before, entries));
    store.verify();
}

#[test]
fn paths_are_deleted_one_by_one() {
    let Some(store) = store() else { return };
    let outputs = populate(&store);
    let error = store.kiln(["store", "delete", &outputs[1]]);
    assert!(error.failed(1).contains("is still alive: it is in use by"), "{}", error.stderr);
    store.save();
    store.nix_lines("nix-store", ["--delete", &outputs[2]]);
    let expected = store.contents();
    store.go_back();
    let deleted = store.kiln(["store", "delete", &outputs[2]]);
    assert!(deleted.line().starts_with("1 store paths deleted"), "{}", deleted.stdout);
    assert_eq!(store.contents(), expected);
    let link = store.directory().join("result");
    assert_eq!(store.kiln(["build", &outputs[0]]).code, Some(0));
    let error = store.kiln(["store", "delete", &outputs[0]]);
    assert!(error.failed(1).contains(&format!("'{}' -> {}", link.display(), outputs[0])), "{}", error.stderr);
    let why = store.kiln(["roots", &outputs[0]]);
    assert_eq!(why.line(), format!("{} -> {}", link.display(), outputs[0]));
    let usage = store.kiln(["du", "--json", "./result"]);
    let usage: serde_json::Value = serde_json::from_str(&usage.stdout).unwrap();
    assert!(usage[0]["closureSize"].as_u64() > usage[0]["narSize"].as_u64(), "{usage}");
    assert_eq!(store.kiln(["store", "delete", "--ignore-liveness", &outputs[0]]).code, Some(0));
    store.verify();
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end of a process, which is a failure if it takes too long: then they wait for each other.
fn end(mut child: Child) -> Ran {
    let deadline = Instant::now() + Duration::from_secs(180);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("still running after three minutes: {:?}", Ran::from(child));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.into()
}

/// Some layers of derivations, each of which needs all below it.
fn layers(store: &SharedStore, prefix: &str) -> String {
    let expression = format!(
        r#"
        let
          names = map toString [ 1 2 3 4 ];
          layer = prefix: below: map (name: derivation {{
            name = prefix + name; inherit below;
            system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
            args = [ "-ec" "for path in $below; do cat $path > /dev/null; done; sleep 0.1; echo $below $name > $out" ];
          }}) names;
        in derivation {{
          name = "{prefix}top"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
          below = layer "{prefix}c" (layer "{prefix}b" (layer "{prefix}a" [ ]));
          text = builtins.toFile "{prefix}text" "text of {prefix}";
          args = [ "-ec" "cat $below $text > /dev/null; echo $below > $out" ];
        }}"#
    );
    // A collection must not come between the evaluation and the build.
    let link = store.directory().join(format!("{prefix}.drv"));
    store
        .nix_lines("nix-instantiate", ["-E", &expression, "--indirect", "--add-root", link.to_str().unwrap()])
        .remove(0)
}

/// Collections by both while both build: nothing that is alive is lost, and what is garbage goes.
#[test]
fn collections_by_both_beside_builds_by_both() {
    let Some(store) = store() else { return };
    // The links keep derivations, and the builds their own outputs, by temporary roots.
    let derivations = ["k", "n"].map(|prefix| layers(&store, prefix));
    let garbage = store.write("garbage", "garbage");
    let garbage = store.nix_lines("nix-store", ["--add", garbage.to_str().unwrap()]).remove(0);
    let mut kiln = spawn(store.kiln_command(["build", &derivations[0]]));
    let mut nix = {
        // A root that Nix 2.8 makes when it has built can be made too late for the permanent and too early for the temporary
        // roots that a collection reads. So this one is there before.
        let output = store.nix_lines("nix-store", ["-q", "--outputs", &derivations[1]]).remove(0);
        symlink(output, store.directory().join("nix-result")).unwrap();
        symlink(store.directory().join("nix-result"), store.nix().state_dir().join("gcroots/nix-result"))
            .unwrap();
        let mut command = store.nix().command("nix-store");
        command.args(["--realise", &derivations[1]]);
        spawn(command)
    };
    let mut collections = 0;
    while kiln.try_wait().unwrap().is_none() || nix.try_wait().unwrap().is_none() {
        // One waits for the other's lock.
        let ours = spawn(store.kiln_command(["gc"]));
        nix_gc(&store, &[]);
        let ran = end(ours);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        collections += 1;
    }
    let (kiln, nix) = (end(kiln), end(nix));
    assert_eq!((kiln.code, nix.code), (Some(0), Some(0)), "{}\n{}", kiln.stderr, nix.stderr);
    assert!(collections > 0 && !Path::new(&garbage).exists());
    store.verify();
    let before: BTreeSet<String> = lines(&store.kiln(["store", "query", "--all"]));
    assert!(before.contains(kiln.line()) && before.len() >= 2 * 15, "{}", before.len());
    for link in ["k.drv", "n.drv", "result", "nix-result"] {
        fs::remove_file(store.directory().join(link)).unwrap();
    }
    assert_eq!(store.kiln(["gc"]).code, Some(0));
    let contents = store.contents();
    assert_eq!((contents.rows.len(), contents.files.len(), contents.locks.len()), (0, 0, 0), "{contents:?}");
}

/// Sandboxed builds with build users, as they are used, beside collections that never pause.
#[test]
fn collections_beside_sandboxed_builds() {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let recipe = (0..6).fold(Recipe::default(), |recipe, number| {
        let below = if number == 0 { String::new() } else { format!("cat ${{step{}}}", number - 1) };
        recipe.derivation(&format!("step{number}"), &format!("{below}\nsleep 0.2\necho {number} > $out"))
    });
    // The link that it leaves holds the result: the last collection may begin as the build ends.
    let mut build = kiln.start_linked_build(&recipe, &[":step5"]);
    let mut collections = 0;
    while build.try_wait().unwrap().is_none() {
        // The derivations are added before they are needed: a collection of before would be in its right.
        if kiln.root().join("nix/store").exists() && collections_may_begin(&kiln) {
            let ran = kiln.run(["gc"]);
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            collections += 1;
        }
    }
    let output = Ran::from(build);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(collections > 0);
    assert_eq!(kiln.text(output.line()), "5\n");
    assert_eq!(kiln.run(["store", "verify", "--check-contents"]).code, Some(0));
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Whether a build has begun.
fn collections_may_begin(kiln: &Kiln) -> bool {
    let entries = fs::read_dir(kiln.root().join("nix/store")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".chroot"))
}

/// When space is short, garbage is collected while builds run, and what the request holds is spared.
#[test]
fn s9_garbage_is_collected_while_builds_run() {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let garbage = kiln.write("garbage", "garbage");
    let garbage = kiln.run(["store", "add", garbage.to_str().unwrap()]).line().to_owned();
    let wait = kiln.real(&garbage);
    let recipe = Recipe::default()
        .derivation("input", "echo input > $out")
        .derivation("slow", "cat ${input}\nsleep 4\ncat ${input} > $out");
    // More than any disk has is always too little.
    let short =
        ["--option", "min-free", "1000000000000000000", "--option", "max-free", "2000000000000000000"];
    let enough = kiln.build(&recipe, &[":input", "--option", "min-free", "1"]);
    assert!(wait.exists(), "{}", enough.stderr);
    let started = kiln
        .start_build(&recipe, &[&[":slow", "--option", "min-free-check-interval", "1"][..], &short].concat());
    kiln.wait_until("the garbage is collected", || !wait.exists());
    let ran = Ran::from(started);
    assert_eq!(kiln.text(ran.line()), "input\n");
    assert_eq!(kiln.run(["store", "verify", "--check-contents"]).code, Some(0));
    assert_eq!(kiln.remains(), [""; 0]);
}
