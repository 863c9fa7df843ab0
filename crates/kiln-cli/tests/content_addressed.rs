//! Derivations whose output paths follow from what was built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;

use kiln_testing::{Kiln, Ran, Recipe, SharedStore};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("experimental-features", "ca-derivations")
}

const FLOATING: &str = "contentAddressed = true\noutputHashMode = \"recursive\"\noutputHashAlgo = \"sha256\"";

fn floating(name: &str, script: &str) -> Recipe {
    Recipe::default().derivation(name, script).with(FLOATING)
}

#[test]
fn without_the_feature_nothing_of_that_kind_is_built() {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let ran = kiln.build(&floating("it", "echo > $out"), &[]);
    assert!(ran.failed(100).contains("'ca-derivations' is disabled"), "{}", ran.stderr);
}

#[test]
fn the_path_follows_from_the_content() {
    let kiln = kiln();
    let path = kiln.build(&floating("it", "echo same > $out"), &[]).line().to_owned();
    let info = kiln.info(&path).unwrap();
    let hash = info["narHash"].as_str().unwrap();
    assert!(info["ca"].to_string().contains("r:sha256:") || info["ca"]["hash"] == hash, "{info}");
    let again = kiln.build(&floating("it", ": another way; echo same > $out"), &[]);
    assert_eq!(again.line(), path, "another derivation, the same content");
    assert!(again.stderr.contains("building '"), "{}", again.stderr);
    let known = kiln.build(&floating("it", "echo same > $out"), &["--json"]);
    assert!(known.stdout.contains("\"AlreadyValid\"") && known.stdout.contains(&path), "{}", known.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn content_that_names_itself_is_rewritten() {
    for kiln in [kiln(), kiln().in_place().option("sandbox", "false")] {
        let script = "mkdir $out; echo in $out > $out/self; ln -s $out/self $out/link";
        let path = kiln.build(&floating("it", script), &[]).line().to_owned();
        assert_eq!(kiln.text(&format!("{path}/self")), format!("in {path}\n"));
        assert_eq!(
            fs::read_link(kiln.real(&path).join("link")).unwrap().to_str().unwrap(),
            format!("{path}/self")
        );
        assert_eq!(kiln.info(&path).unwrap()["references"].as_array().unwrap().len(), 1);
        kiln.run(["store", "verify", &path]).lines();
        assert_eq!(kiln.remains(), [""; 0]);
    }
}

#[test]
fn outputs_may_refer_to_each_other_one_way() {
    let kiln = kiln();
    let recipe = floating("it", "echo $dev > $out; echo dev > $dev").with("outputs = [\"out\", \"dev\"]");
    let ran = kiln.build(&recipe, &[]);
    let (dev, out) = (ran.lines()[0].to_owned(), ran.lines()[1].to_owned());
    assert_eq!(kiln.text(&out).trim(), dev);
    let circle = floating("it", "echo $dev > $out; echo $out > $dev").with("outputs = [\"out\", \"dev\"]");
    let ran = kiln.build(&circle, &[]);
    assert!(ran.failed(1).contains("cycle detected in build of 'it'"), "{}", ran.stderr);
}

#[test]
fn what_does_not_change_an_output_rebuilds_nothing_above_it() {
    let kiln = kiln();
    let graph = |comment: &str| {
        floating("lib", &format!(": {comment}; echo lib > $out"))
            .derivation("top", "echo top of ${lib} > $out")
            .with(FLOATING)
    };
    let build = |recipe: &Recipe| {
        kiln.write("kiln.toml", recipe.text());
        kiln.run(["build", "--no-link", ":top"])
    };
    let first = build(&graph("one way"));
    let path = first.line().to_owned();
    assert_eq!(first.stderr.matches("building '").count(), 2, "{}", first.stderr);
    let second = build(&graph("another way"));
    assert_eq!(second.line(), path);
    let built: Vec<&str> = second.stderr.lines().filter(|line| line.contains("building '")).collect();
    assert!(built.len() == 1 && built[0].contains("-lib.drv"), "only what changed: {}", second.stderr);
    assert_eq!(kiln.info(&path).unwrap()["references"].as_array().unwrap().len(), 1);
}

#[test]
fn outputs_of_others_wait_for_the_paths_of_their_inputs() {
    let kiln = kiln();
    let recipe =
        floating("lib", "echo lib > $out").derivation("top", "cat ${lib} > $out; echo ${lib} >> $out");
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", ":top"]);
    let top = ran.line().to_owned();
    let text = kiln.text(&top);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("lib"));
    assert!(lines.next().is_some_and(|lib| kiln.info(lib).is_some()), "{text}");
    let again = kiln.run(["build", "--no-link", ":top"]);
    assert_eq!(again.line(), top);
    assert!(!again.stderr.contains("building '"), "{}", again.stderr);
}

#[test]
fn a_fixed_output_may_be_made_from_content() {
    let kiln = kiln();
    let recipe = floating("lib", "echo lib > $out")
        .derivation("top", "cat ${lib} > $out")
        .fixed("sha256-4ydQ0kEXHStVL6HfHpbSKQqS8hJpnzWfvGQGwNaCsDw=", "flat");
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", ":top"]);
    let got = ran.failed(102).lines().find(|line| line.contains("got:")).unwrap().to_owned();
    let hash = got.split_whitespace().last().unwrap().to_owned();
    let recipe =
        floating("lib", "echo lib > $out").derivation("top", "cat ${lib} > $out").fixed(&hash, "flat");
    kiln.write("kiln.toml", recipe.text());
    assert_eq!(kiln.text(kiln.run(["build", "--no-link", ":top"]).line()), "lib\n");
}

#[test]
fn what_is_wrong_below_is_told() {
    let kiln = kiln();
    let recipe = floating("lib", "echo lib > $out").derivation("top", "echo why; false").with(FLOATING);
    kiln.write("kiln.toml", recipe.text());
    let ran = kiln.run(["build", "--no-link", ":top"]);
    assert!(ran.failed(100).contains("failed with exit code 1"), "{}", ran.stderr);
}

/// A graph in Nix's language: content-addressed, and not, on top of content-addressed.
const GRAPH: &str = r#"
let
  mk = name: script: more: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  } // more);
  ca = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
  lib = mk "lib" "echo lib > $out; mkdir $dev; ln -s $out $dev/lib" (ca // { outputs = [ "out" "dev" ]; });
in [
  (mk "top" "echo ${lib} ${lib.dev} > $out" ca)
  (mk "plain" "cat ${lib} > $out; ls -l ${lib.dev} >> $out; echo ${lib} >> $out" { })
]"#;

fn store() -> Option<SharedStore> {
    let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?;
    Some(store.option("experimental-features", "ca-derivations nix-command").option("sandbox", "false"))
}

#[test]
fn real_nix_finds_what_kiln_has_made_and_would_make_the_same() {
    let Some(store) = store() else { return };
    let derivations = store.instantiate(GRAPH);
    store.save();
    let by_kiln = store.build(&derivations);
    store.verify();
    let realise = |store: &SharedStore| {
        let arguments = ["--realise".to_owned()].into_iter().chain(derivations.iter().cloned());
        let output = store.nix().output("nix-store", arguments);
        let (paths, told) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{told}");
        (paths.lines().map(str::to_owned).collect::<Vec<_>>(), told)
    };
    let (found, told) = realise(&store);
    assert_eq!(found, by_kiln);
    assert!(!told.contains("building"), "everything is on record: {told}");
    store.go_back();
    let (by_nix, told) = realise(&store);
    assert_eq!(by_nix, by_kiln);
    assert!(told.contains("building"), "{told}");
    // And the other way round.
    let ran = store.kiln(["build", "--no-link"].into_iter().chain(derivations.iter().map(String::as_str)));
    assert_eq!(ran.lines(), by_nix);
    assert!(!ran.stderr.contains("building '"), "{}", ran.stderr);
}

/// A key that signs what is built, in a file, and the public one.
fn key(store: &SharedStore) -> (String, String) {
    let secret = store.nix().run("nix", ["key", "generate-secret", "--key-name", "builder-1"]);
    let file = store.write("key.sec", &secret).display().to_string();
    let mut converting = store.kiln_command(["cache", "key", "convert-secret-to-public"]);
    let output = converting.stdin(fs::File::open(&file).unwrap()).output().unwrap();
    (file, Ran::from(output).line().to_owned())
}

/// Builds derivations by Kiln with these settings, which come after the store's own.
fn build(store: &SharedStore, derivations: &[String], settings: &[(&str, &str)]) -> Ran {
    let mut command = store.kiln_command(["build", "--no-link"]);
    command.args(derivations);
    for (name, value) in settings {
        command.args(["--option", name, value]);
    }
    command.output().unwrap().into()
}

#[test]
fn d3_outputs_that_real_nix_has_put_into_a_cache_are_fetched() {
    let Some(store) = store() else { return };
    let derivations = store.instantiate(GRAPH);
    store.save();
    let (secret, public) = key(&store);
    let cache = format!("file://{}", store.directory().join("cache").display());
    let signing = ["--realise", "--option", "secret-key-files", &secret];
    let by_nix =
        store.nix_lines("nix-store", signing.into_iter().chain(derivations.iter().map(String::as_str)));
    let copying = ["copy", "--to", &cache].into_iter().chain(derivations.iter().map(String::as_str));
    store.nix().run("nix", copying);
    let realisations = || fs::read_dir(store.directory().join("cache/realisations")).unwrap();
    assert!(realisations().count() >= derivations.len());

    // Whose word nobody trusts is not taken: there is a build.
    store.go_back();
    let ran = build(&store, &derivations, &[("substituters", &cache)]);
    assert_eq!(ran.lines(), by_nix);
    assert!(ran.stderr.contains("does not have a valid signature for derivation output"), "{}", ran.stderr);
    assert!(ran.stderr.contains("building '"), "{}", ran.stderr);

    store.go_back();
    let trusting = [("substituters", cache.as_str()), ("trusted-public-keys", &public)];
    let ran = build(&store, &derivations, &trusting);
    assert_eq!(ran.lines(), by_nix);
    assert!(!ran.stderr.contains("building '"), "{}", ran.stderr);
    store.verify();
    // What was fetched is on record, for real Nix too.
    let again = build(&store, &derivations, &[]);
    assert_eq!(again.lines(), by_nix);
    assert!(!again.stderr.contains("building '"), "{}", again.stderr);

    // What makes no sense is told of, and does no harm.
    store.go_back();
    for file in realisations() {
        fs::write(file.unwrap().path(), "{\"outPath\": \"../../etc\"}").unwrap();
    }
    let ran = build(&store, &derivations, &trusting);
    assert_eq!(ran.lines(), by_nix);
    assert!(ran.stderr.contains("about derivation output"), "{}", ran.stderr);
}

#[test]
fn real_nix_fetches_outputs_that_kiln_has_put_into_a_cache() {
    let Some(store) = store() else { return };
    let derivations = store.instantiate(GRAPH);
    store.save();
    let (secret, public) = key(&store);
    let cache = format!("file://{}", store.directory().join("cache").display());
    let by_kiln = build(&store, &derivations, &[("secret-key-files", &secret)]);
    let targets = derivations.iter().map(|derivation| format!("{derivation}^*"));
    let copied = store.kiln(["copy".to_owned(), "--to".to_owned(), cache.clone()].into_iter().chain(targets));
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    store.go_back();
    let mut realising = store.nix().command("nix-store");
    realising.arg("--realise").args(&derivations);
    let output = realising
        .args(["--option", "substitute", "true", "--option", "substituters", &cache])
        .args(["--option", "trusted-public-keys", &public])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), by_kiln.lines());
    assert!(!told.contains("building '"), "{told}");
}
