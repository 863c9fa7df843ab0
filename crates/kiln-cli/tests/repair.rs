//! What is damaged and is made good: built again, or had from a cache that real Nix has written (D2, D15, R4).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kiln_testing::{Kiln, Ran, Recipe, SharedStore};
use serde_json::Value;

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// A source that nobody can build, a library with it, and a program with two outputs on top.
const GRAPH: &str = r#"
let
  mk = name: script: more: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  } // more);
  source = builtins.toFile "source" "source\n";
  lib = mk "lib" "mkdir $out; echo ${source} > $out/lib" { };
in mk "top" "echo ${lib} > $out; echo dev > $dev" { outputs = [ "out" "dev" ]; }"#;

struct World {
    store: SharedStore,
    derivation: String,
    top: String,
    dev: String,
    lib: String,
    source: String,
    cache: String,
}

/// A store with everything, beside a cache with everything.
fn world() -> Option<World> {
    let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?.option("sandbox", "false");
    let derivation = store.instantiate(GRAPH).remove(0);
    let outputs = store.build(&[format!("{derivation}^*")]);
    let cache = format!("file://{}", store.directory().join("cache").display());
    let copy = ["copy", "--extra-experimental-features", "nix-command", "--to", &cache];
    for output in &outputs {
        store.nix().run("nix", copy.iter().chain([&output.as_str()]));
    }
    let named = |name: &str| outputs.iter().find(|path| path.ends_with(name)).unwrap().clone();
    let (top, dev) = (named("-top"), named("-top-dev"));
    let closure = store.nix_lines("nix-store", ["-qR", &top]);
    let below = |name: &str| closure.iter().find(|path| path.ends_with(name)).unwrap().clone();
    let (lib, source) = (below("-lib"), below("-source"));
    Some(World { store, derivation, top, dev, lib, source, cache })
}

impl World {
    fn run(&self, arguments: &[&str]) -> Ran {
        self.store.kiln(arguments)
    }

    /// The same with the cache, believed without signatures.
    fn run_with_cache(&self, arguments: &[&str]) -> Ran {
        // The last one of several counts, and the store's own come after these.
        let mut command = self.store.kiln_command(arguments);
        command.args(["--option", "substituters", &self.cache, "--option", "require-sigs", "false"]);
        command.output().unwrap().into()
    }

    /// Makes the cache useless without taking it away.
    fn break_archives(&self) {
        for entry in fs::read_dir(self.store.directory().join("cache/nar")).unwrap() {
            fs::write(entry.unwrap().path(), "not an archive").unwrap();
        }
    }

    /// What Kiln says of the whole store, by path.
    fn verified(&self, more: &[&str]) -> (Ran, Value) {
        let ran = self.run_with_cache(&[&["store", "verify", "--check-contents", "--json"], more].concat());
        let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
        (ran, json)
    }
}

/// Changes a file of a valid path, canonical as it stays.
fn corrupt(file: &str) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, "corrupt").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|finding| finding["path"].as_str().unwrap()).collect()
}

#[test]
fn d15_outputs_are_fetched_before_anything_is_built() {
    let Some(world) = world() else { return };
    corrupt(&world.top);
    let before = fs::metadata(&world.dev).unwrap().ino();
    let ran = world.run_with_cache(&["build", "--no-link", "--json", "--repair", &world.derivation]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("path '{}' is corrupted or missing!", world.top)), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("copying path '{}' from", world.top)), "{}", ran.stderr);
    assert!(!ran.stderr.contains("repairing outputs of"), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"AlreadyValid\""), "{}", ran.stdout);
    assert_eq!(fs::read_to_string(&world.top).unwrap().trim(), world.lib);
    assert_eq!(fs::metadata(&world.dev).unwrap().ino(), before, "what is good is left alone");
    world.store.verify();
}

#[test]
fn d15_what_cannot_be_fetched_is_built_again() {
    let Some(world) = world() else { return };
    // Nobody has it.
    corrupt(&world.top);
    let ran = world.run(&["build", "--no-link", "--repair", &world.derivation]);
    assert!(ran.code == Some(0) && ran.stderr.contains("repairing outputs of"), "{}", ran.stderr);
    world.store.verify();
    // Somebody has it, but broken.
    corrupt(&world.top);
    world.break_archives();
    let repair = ["build", "--no-link", "--repair", &world.derivation];
    let ran = world.run_with_cache(&repair);
    assert!(ran.failed(1).contains("some substitutes for the outputs of derivation"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&world.top).unwrap(), "corrupt", "it is still there");
    let ran = world.run_with_cache(&[&repair[..], &["--fallback"]].concat());
    assert!(ran.code == Some(0) && ran.stderr.contains("repairing outputs of"), "{}", ran.stderr);
    world.store.verify();
}

#[test]
fn d15_what_the_outputs_refer_to_and_nobody_builds_is_fetched() {
    let Some(world) = world() else { return };
    corrupt(&world.source);
    let repair = ["build", "--no-link", "--repair", &world.derivation];
    let told = format!("found corrupted or missing path '{}' in the output closure of '", world.source);
    let ran = world.run(&repair);
    let message = format!(
        "some paths in the output closure of derivation '{}' could not be repaired",
        world.derivation
    );
    assert!(ran.failed(1).contains(&told) && ran.stderr.contains(&message), "{}", ran.stderr);
    let ran = world.run_with_cache(&repair);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&world.source).unwrap(), "source\n");
    world.store.verify();
}

#[test]
fn d4_in_a_repair_the_inputs_of_what_is_built_are_repaired() {
    let Some(world) = world() else { return };
    corrupt(&world.top);
    corrupt(&format!("{}/lib", world.lib));
    fs::remove_dir_all(world.store.directory().join("cache/nar")).unwrap();
    let ran = world.run_with_cache(&["build", "--no-link", "--repair", &world.derivation]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("repairing outputs of").count(), 2, "{}", ran.stderr);
    world.store.verify();
}

#[test]
fn r4_a_path_is_fetched_afresh() {
    let Some(world) = world() else { return };
    for (path, file) in [(&world.source, world.source.clone()), (&world.lib, format!("{}/lib", world.lib))] {
        corrupt(&file);
        let ran = world.run_with_cache(&["store", "repair", path]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("copying path '{path}' from")), "{}", ran.stderr);
        world.store.verify();
    }
    // What is missing on the disk, too; and nothing is fetched that is good.
    fs::remove_file(&world.source).unwrap();
    assert_eq!(world.run_with_cache(&["store", "repair", &world.source]).code, Some(0));
    let ran = world.run_with_cache(&["store", "repair", &world.source]);
    assert!(ran.code == Some(0) && !ran.stderr.contains("copying path"), "{}", ran.stderr);
    world.store.verify();
}

#[test]
fn r4_what_a_cache_has_damaged_is_not_taken() {
    let Some(world) = world() else { return };
    corrupt(&world.source);
    world.break_archives();
    let ran = world.run_with_cache(&["store", "repair", &world.source]);
    assert!(ran.failed(1).contains(&format!("cannot repair path '{}'", world.source)), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&world.source).unwrap(), "corrupt", "nothing has taken its place");
    // Nor what nobody has signed.
    let Some(world) = self::world() else { return };
    corrupt(&format!("{}/lib", world.lib));
    let ran = {
        let mut command = world.store.kiln_command(["store", "repair", &world.lib]);
        command.args(["--option", "substituters", &world.cache, "--option", "require-sigs", "true"]);
        Ran::from(command.output().unwrap())
    };
    let message = format!("does not have a valid signature for path '{}'", world.lib);
    assert!(ran.stderr.contains(&message), "{}", ran.stderr);
    assert_eq!(ran.code, Some(0), "it is built again: {}", ran.stderr);
    world.store.verify();
}

#[test]
fn r4_a_path_that_is_no_output_is_repaired_as_a_target() {
    let Some(world) = world() else { return };
    corrupt(&world.source);
    let repair = ["build", "--no-link", "--repair", world.source.as_str()];
    assert!(world.run(&repair).failed(1).contains("cannot repair path"));
    assert_eq!(world.run_with_cache(&repair).code, Some(0));
    world.store.verify();
}

/// Real Nix says the same of the same store, before and after.
#[test]
fn r4_a_verification_repairs_what_can_be_and_lists_the_rest() {
    let Some(world) = world() else { return };
    let stray = world.store.write("stray", "stray\n");
    let stray = world.store.nix_lines("nix-store", ["--add", stray.to_str().unwrap()]).remove(0);
    corrupt(&world.source);
    corrupt(&format!("{}/lib", world.lib));
    fs::remove_file(&world.dev).unwrap();
    corrupt(&stray);

    let (ran, json) = world.verified(&[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    // Nothing refers to it.
    assert_eq!(paths(&json["disappeared"]), [&world.dev]);
    let mut bad = [world.source.as_str(), &world.lib, &stray];
    bad.sort_unstable();
    let mut found = paths(&json["damaged"]);
    found.sort_unstable();
    assert_eq!(found, bad);
    let by_nix = world.store.nix().output("nix-store", ["--verify", "--check-contents"]);
    let by_nix = String::from_utf8_lossy(&by_nix.stderr).into_owned();
    for path in bad {
        assert!(by_nix.contains(&format!("path '{path}' was modified!")), "{by_nix}");
    }

    let (ran, json) = world.verified(&["--repair"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(paths(&json["damaged"]), [stray.as_str()]);
    assert_eq!(json["repaired"].as_array().unwrap().len(), 2, "{json}");
    for message in [format!("cannot repair path '{stray}'"), "not all store errors were fixed".to_owned()] {
        assert!(ran.stderr.contains(&message), "{message}: {}", ran.stderr);
    }
    let ran = world.run_with_cache(&["store", "verify", "--repair", &world.source, &world.lib]);
    assert!(ran.code == Some(0) && ran.stdout.is_empty(), "{}", ran.stderr);
    let ran = world.run_with_cache(&["store", "verify", "--check-contents"]);
    assert_eq!((ran.code, ran.stdout.trim()), (Some(1), stray.as_str()));
}

/// Changes a valid file as a failing disk would.
fn corrupt_in(kiln: &Kiln, path: &str) {
    let file = kiln.real(path);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "corrupt").unwrap();
}

#[test]
fn d15_what_is_corrupt_is_built_again_and_replaced() {
    for kiln in [kiln(), kiln().in_place().option("sandbox", "false")] {
        let recipe = Recipe::script("echo good > $out");
        let path = kiln.build(&recipe, &[]).line().to_owned();
        let info = kiln.info(&path).unwrap();
        corrupt_in(&kiln, &path);
        // Nothing is read unless it is asked for.
        assert_eq!(kiln.build(&recipe, &[]).code, Some(0));
        let ran = kiln.build(&recipe, &["--repair"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for message in
            [format!("path '{path}' is corrupted or missing!"), "repairing outputs of '".to_owned()]
        {
            assert!(ran.stderr.contains(&message), "{message}: {}", ran.stderr);
        }
        assert_eq!(fs::read_to_string(kiln.real(&path)).unwrap(), "good\n");
        assert_eq!(kiln.info(&path).unwrap()["narHash"], info["narHash"]);
        fs::remove_file(kiln.real(&path)).unwrap();
        assert_eq!(kiln.build(&recipe, &["--repair"]).code, Some(0), "what is missing, too");
        kiln.run(["store", "verify", &path]).lines();
        assert_eq!(kiln.remains(), [""; 0]);
    }
}

#[test]
fn d2_a_repair_of_what_is_good_builds_nothing() {
    let kiln = kiln();
    let recipe = Recipe::script("echo good > $out");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    let ran = kiln.build(&recipe, &["--repair", "--json"]);
    assert!(ran.stdout.contains("\"AlreadyValid\""), "{}", ran.stdout);
    assert!(ran.stderr.contains(&format!("checking path '{path}'...")), "{}", ran.stderr);
}

#[test]
fn d15_what_good_outputs_refer_to_is_repaired_too() {
    let kiln = kiln();
    let recipe =
        Recipe::default().derivation("lib", "echo lib > $out").derivation("top", "echo ${lib} > $out");
    kiln.write("kiln.toml", recipe.text());
    let named = |name: &str| kiln.run(["build", "--no-link", name]).line().to_owned();
    let (top, lib) = (named(":top"), named(":lib"));
    corrupt_in(&kiln, &lib);
    let ran = kiln.run(["build", "--no-link", ":top", "--repair"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let message = format!("found corrupted or missing path '{lib}' in the output closure of '");
    assert!(ran.stderr.contains(&message), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(kiln.real(&lib)).unwrap(), "lib\n");
    assert_eq!(fs::read_to_string(kiln.real(&top)).unwrap().trim(), lib);
}

#[test]
fn d15_o3_a_fixed_output_is_repaired_with_the_hash_that_is_stated_alone() {
    let kiln = kiln();
    let content = kiln.write("content", "hello\n");
    let kiln = kiln.option("extra-sandbox-paths", &format!("/content={}", content.display()));
    let hello = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
    let recipe = Recipe::script("cat /content > $out").fixed(hello, "flat");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    corrupt_in(&kiln, &path);
    fs::write(&content, "other\n").unwrap();
    let ran = kiln.build(&recipe, &["--repair"]);
    assert!(ran.failed(102).contains("hash mismatch in fixed-output derivation '"), "{}", ran.stderr);
    assert_eq!(kiln.text(&path), "corrupt", "nothing has taken its place");
    fs::write(&content, "hello\n").unwrap();
    assert_eq!(kiln.build(&recipe, &["--repair"]).code, Some(0));
    assert_eq!(kiln.text(&path), "hello\n");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn r4_a_path_is_repaired_by_the_derivation_that_made_it() {
    let kiln = kiln();
    let recipe = Recipe::script("echo good > $out");
    let path = kiln.build(&recipe, &[]).line().to_owned();
    corrupt_in(&kiln, &path);
    assert_eq!(kiln.run(["store", "verify", "--check-contents"]).code, Some(1));
    assert_eq!(kiln.run(["store", "repair", &path]).code, Some(0));
    assert_eq!(kiln.run(["store", "verify", "--check-contents"]).code, Some(0));
    kiln.write("source", "text");
    let source =
        kiln.run(["store", "add", kiln.directory().join("source").to_str().unwrap()]).line().to_owned();
    corrupt_in(&kiln, &source);
    let ran = kiln.run(["store", "repair", &source]);
    assert!(ran.failed(1).contains(&format!("cannot repair path '{source}'")), "{}", ran.stderr);
}
