//! Kiln and real Nix at work on one store at the same time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_testing::{Ran, Recipe, SharedStore};

/// Builders of both are without a sandbox, so that they can be counted by what they write elsewhere.
fn store() -> Option<SharedStore> {
    SharedStore::find(env!("CARGO_BIN_EXE_kiln"))
        .map(|store| store.option("sandbox", "false").option("max-jobs", "3"))
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end of a process, which is a failure if it takes too long: then they wait for each other.
fn end(mut child: Child) -> Ran {
    let deadline = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("still running after two minutes: {:?}", Ran::from(child));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.into()
}

/// Waits until a file is there.
fn wait_for(path: &std::path::Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < deadline, "waited in vain for {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Three layers of derivations, each of which needs all those below it, that say in a file when they are built.
fn layers(store: &SharedStore) -> (String, std::path::PathBuf) {
    let built = store.write("built", "");
    let expression = format!(
        r#"
        let
          names = prefix: map (number: prefix + toString number) [ 1 2 3 4 5 6 ];
          layer = prefix: below: map (name: derivation {{
            inherit name below;
            system = builtins.currentSystem;
            builder = "/bin/sh";
            PATH = "/usr/bin:/bin";
            args = [ "-ec" "echo $name >> {}; sleep 0.1; echo $below > $out; echo log of $name" ];
          }}) (names prefix);
        in derivation {{
          name = "top"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
          below = layer "c" (layer "b" (layer "a" [ ]));
          args = [ "-c" "echo top >> {}; echo $below > $out" ];
        }}"#,
        built.display(),
        built.display()
    );
    (store.instantiate(&expression).remove(0), built)
}

#[test]
fn each_derivation_is_built_once() {
    let Some(store) = store() else { return };
    let (top, built) = layers(&store);
    let processes = [
        spawn(store.kiln_command(["build", "--no-link", &top])),
        spawn({
            let mut command = store.nix().command("nix-store");
            command.args(["--realise", &top]);
            command
        }),
        spawn(store.kiln_command(["build", "--no-link", &top])),
    ];
    let outputs = processes.map(|process| end(process).line().to_owned());
    assert!(outputs.iter().all(|output| *output == outputs[0]));
    let mut times = BTreeMap::new();
    for name in fs::read_to_string(built).unwrap().lines() {
        *times.entry(name.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(times.len(), 19, "{times:?}");
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    store.verify();
    let contents = store.contents();
    assert_eq!(contents.locks, [""; 0]);
    assert_eq!(contents.logs.len(), 19);
    assert!(contents.files.keys().all(|name| !name.ends_with(".chroot")));
}

/// Several Kilns are given one recipe at once: its source and derivations are added, and each derivation is built by one of
/// them, also where the paths of outputs are not known before, and where outputs are fixed.
#[test]
fn several_kilns_build_each_derivation_once() {
    let Some(store) = SharedStore::find(env!("CARGO_BIN_EXE_kiln")) else { return };
    let store = store
        .with_build_users()
        .option("experimental-features", "nix-command ca-derivations")
        .option("fod-network", "host");
    let floating = "contentAddressed = true\noutputHashMode = \"recursive\"\noutputHashAlgo = \"sha256\"";
    let recipe = Recipe::default()
        .derivation("lib", "sleep 0.3; echo lib >$out; echo $out >$dev")
        .with("outputs = [\"out\", \"dev\"]")
        .derivation("fixed", "sleep 0.3; echo lib >$out")
        .fixed("sha256-oyXcrLgLICoBS0ILk/wZBhkAAY+M4hbQoMsA1hDsf5c=", "flat")
        .derivation("floating", "sleep 0.3; cat ${lib.dev} ${fixed} >$out; echo $out >>$out")
        .with(floating)
        .derivation("top", "sleep 0.3; cat ${floating} ${source.data} >$out")
        .with("[source.data]\npath = \"data\"");
    store.write("kiln.toml", recipe.text());
    store.write("data", "data\n");
    let kilns = [(); 3].map(|()| spawn(store.kiln_command(["build", "--no-link", ":top"]))).map(end);
    let outputs: BTreeSet<&str> = kilns.iter().map(Ran::line).collect();
    assert_eq!(outputs.len(), 1, "{kilns:?}");
    for name in ["lib", "fixed", "floating", "top"] {
        let of_this = |line: &&str| line.starts_with("building '") && line.contains(&format!("-{name}.drv'"));
        let times = kilns.iter().flat_map(|ran| ran.stderr.lines()).filter(of_this).count();
        assert_eq!(times, 1, "{name}: {kilns:?}");
    }
    store.verify();
    assert_eq!(store.remains(), [""; 0]);
}

/// One waits while the other builds what both want, and takes it, or, if it fails, tries itself.
#[test]
fn either_waits_for_the_other() {
    let Some(store) = store() else { return };
    let begun = store.directory().join("begun");
    let go_on = store.directory().join("go-on");
    for (first_is_kiln, fails) in [(true, false), (false, false), (true, true), (false, true)] {
        let script = format!(
            "echo > {}; until test -e {}; do sleep 0.05; done; {} echo > $out",
            begun.display(),
            go_on.display(),
            if fails { "exit 1;" } else { "" }
        );
        let derivation = store.instantiate(&format!(
            "derivation {{ name = \"slow-{first_is_kiln}-{fails}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
             PATH = \"/usr/bin:/bin\"; args = [ \"-c\" \"{script}\" ]; }}"
        ));
        let kiln = || spawn(store.kiln_command(["build", "--no-link", &derivation[0]]));
        let nix = || {
            let mut command = store.nix().command("nix-store");
            command.args(["--realise", &derivation[0]]);
            spawn(command)
        };
        let first = if first_is_kiln { kiln() } else { nix() };
        wait_for(&begun);
        let mut second = if first_is_kiln { nix() } else { kiln() };
        std::thread::sleep(Duration::from_millis(500));
        assert!(second.try_wait().unwrap().is_none(), "it waits");
        fs::write(&go_on, "").unwrap();
        let (first, second) = (end(first), end(second));
        let code = if fails { 100 } else { 0 };
        assert_eq!((first.code, second.code), (Some(code), Some(code)), "{first:?} {second:?}");
        let builders = if fails { 2 } else { 1 };
        let said = format!("{}{}", first.stderr, second.stderr);
        assert_eq!(said.matches("building '").count(), builders, "{said}");
        fs::remove_file(&begun).unwrap();
        fs::remove_file(&go_on).unwrap();
    }
    store.verify();
}

/// What Kiln is about to use or has just made is spared by a collection of Nix that runs beside it.
#[test]
fn collections_by_nix_spare_what_kiln_works_on() {
    let Some(store) = store() else { return };
    let [begun, go_on] = ["begun", "go-on"].map(|name| store.directory().join(name));
    let expression = format!(
        r#"
        let mk = name: script: more: derivation ({{
              inherit name; system = builtins.currentSystem; builder = "/bin/sh";
              PATH = "/usr/bin:/bin"; args = [ "-ec" script ]; }} // more);
            input = mk "input" "echo > $out" {{ }};
            slow = mk "slow" "mkdir $out; echo > {}; until test -e {}; do sleep 0.05; done; echo $input $text > $out/f; cat $input $text"
              {{ inherit input; text = builtins.toFile "text" "text"; }};
        in mk "after" "cat $slow/f > $out" {{ inherit slow; }}"#,
        begun.display(),
        go_on.display(),
    );
    let after = store.instantiate(&expression).remove(0);
    let garbage = store.write("garbage", "garbage");
    let garbage = store.nix_lines("nix-store", ["--add", garbage.to_str().unwrap()]).remove(0);
    let kiln = spawn(store.kiln_command(["build", "--no-link", &after]));
    wait_for(&begun);
    store.collect();
    fs::write(&go_on, "").unwrap();
    let ran = end(kiln);
    let output = ran.line();
    store.verify();
    assert!(!std::path::Path::new(&garbage).exists(), "there was a collection");
    // Nobody needs any of it now.
    assert!(std::path::Path::new(output).exists());
    store.collect();
    let contents = store.contents();
    assert_eq!((contents.rows.len(), contents.files.len(), contents.locks.len()), (0, 0, 0), "{contents:?}");
}

/// Links that Kiln leaves to outputs are roots for Nix, which then takes the same for alive.
#[test]
fn what_is_linked_stays_alive() {
    let Some(store) = store() else { return };
    let (top, _) = layers(&store);
    let ran = store.kiln(["build", &top]);
    let output = ran.line().to_owned();
    let roots = store.nix_lines("nix-store", ["--gc", "--print-roots"]);
    let link = store.directory().join("result");
    assert!(roots.contains(&format!("{} -> {output}", link.display())), "{roots:?}");
    store.collect();
    // By default derivations are kept alive by their outputs.
    let mut alive = store.nix_lines("nix-store", ["-q", "--requisites", &output]);
    alive.extend(store.nix_lines("nix-store", ["-q", "--requisites", &top]));
    alive.sort();
    alive.dedup();
    let mut known: Vec<String> =
        store.kiln(["store", "query", "--all"]).lines().into_iter().map(str::to_owned).collect();
    known.sort();
    assert!(alive.iter().all(|path| known.contains(path)));
    assert_eq!(store.contents().locks, [""; 0]);
    store.verify();
    let again = store.kiln(["build", "--no-link", &top]);
    assert_eq!((again.line(), again.stderr.as_str()), (output.as_str(), ""));
}
