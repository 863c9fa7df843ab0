//! Paths that are fetched instead of built, from caches that real Nix has written (D1, D3, G1–G5, R1).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::process::Command;

use kiln_testing::{Ran, SharedStore, WebServer};
use serde_json::{Value, json};

/// A graph of two, and one that is not to be substituted.
const GRAPH: &str = r#"
let
  mk = name: script: more: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
  } // more);
  lib = mk "lib" "echo lib > $out" { };
in [
  (mk "top" "echo ${lib} > $out" { })
  (mk "local" "echo local > $out" { allowSubstitutes = false; preferLocalBuild = true; })
]"#;

struct World {
    store: SharedStore,
    top: String,
    local: String,
    /// What they make.
    outputs: Vec<String>,
    cache: String,
}

/// A store that has the derivations alone, beside a cache with everything.
fn world() -> Option<World> {
    let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?.option("sandbox", "false");
    let derivations = store.instantiate(GRAPH);
    store.save();
    let outputs = store.build(&derivations);
    let cache = format!("file://{}", store.directory().join("cache").display());
    for path in derivations.iter().chain(&outputs) {
        store
            .nix()
            .run("nix", ["copy", "--extra-experimental-features", "nix-command", "--to", &cache, path]);
    }
    store.go_back();
    let [top, local] = <[String; 2]>::try_from(derivations).unwrap();
    Some(World { store, top, local, outputs, cache })
}

impl World {
    /// The derivation that the target is built from.
    fn lib_derivation(&self) -> String {
        let references = self.store.nix_lines("nix-store", ["-q", "--references", &self.top]);
        references.into_iter().find(|path| path.ends_with("-lib.drv")).unwrap()
    }

    fn build(&self, target: &str, settings: &[(&str, &str)]) -> Ran {
        self.run(&["build", "--no-link", "--json", target], settings)
    }

    fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
        let mut arguments: Vec<&str> = arguments.to_vec();
        for (name, value) in settings {
            arguments.extend(["--option", *name, *value]);
        }
        // The last one of several counts, and the store's own come after these.
        let mut command = self.store.kiln_command(arguments);
        for (name, value) in settings {
            command.args(["--option", name, value]);
        }
        command.output().unwrap().into()
    }

    /// The settings that let the cache be used.
    fn unsigned(&self) -> [(&'static str, &str); 2] {
        [("substituters", &self.cache), ("require-sigs", "false")]
    }

    /// Puts a path into the cache that real Nix would not copy by itself: a derivation.
    fn cache_as_it_is(&self, path: &str) {
        let ask = |question: &str| self.store.nix_lines("nix-store", ["-q", question, path]);
        let archive = self.store.nix().output("nix-store", ["--dump", path]).stdout;
        let cache = self.store.directory().join("cache");
        fs::write(cache.join("nar/derivation.nar"), archive).unwrap();
        let base_name = |path: &String| path.rsplit('/').next().unwrap().to_owned();
        let references: Vec<String> = ask("--references").iter().map(base_name).collect();
        let narinfo = format!(
            "StorePath: {path}\nURL: nar/derivation.nar\nCompression: none\nNarHash: {}\nNarSize: {}\nReferences: {}\n",
            ask("--hash")[0],
            ask("--size")[0],
            references.join(" ")
        );
        let digest = base_name(&path.to_owned())[..32].to_owned();
        fs::write(cache.join(format!("{digest}.narinfo")), narinfo).unwrap();
    }

    fn cached_archives(&self) -> Vec<std::path::PathBuf> {
        let nar = self.store.directory().join("cache/nar");
        fs::read_dir(nar).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn d3_g1_g4_outputs_are_fetched_with_what_they_refer_to() {
    let Some(world) = world() else { return };
    let ran = world.build(&world.top, &world.unsigned());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("\"Substituted\"") && ran.stdout.contains(&world.outputs[0]),
        "{}",
        ran.stdout
    );
    assert!(!ran.stderr.contains("building '"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("copying path '").count(), 2, "{}", ran.stderr);
    world.store.verify();
    let again = world.build(&world.top, &world.unsigned());
    assert!(again.stdout.contains("\"AlreadyValid\""), "{}", again.stdout);
}

#[test]
fn g1_a_path_is_a_target() {
    let Some(world) = world() else { return };
    let ran = world.build(&world.outputs[0], &world.unsigned());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    world.store.verify();
    let nowhere = world.outputs[0].replace("-top", "-nowhere");
    let ran = world.build(&nowhere, &world.unsigned());
    assert!(ran.failed(1).contains("does not exist and cannot be created"), "{}", ran.stderr);
}

#[test]
fn r1_what_would_be_fetched_is_told() {
    let Some(world) = world() else { return };
    let settings = world.unsigned();
    let ran = world.run(&["build", "--no-link", "--dry-run", &world.top, &world.local], &settings);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (built, fetched) = ran.stderr.split_once("fetched").expect(&ran.stderr);
    assert!(built.contains(&world.local) && !built.contains(&world.top), "{}", ran.stderr);
    assert!(fetched.contains(&world.outputs[0]), "{}", ran.stderr);
}

#[test]
fn d3_what_is_not_to_be_substituted_is_built() {
    let Some(world) = world() else { return };
    let ran = world.build(&world.local, &world.unsigned());
    assert!(ran.stdout.contains("\"Built\""), "{}{}", ran.stdout, ran.stderr);
    let Some(world) = self::world() else { return };
    let [urls, signatures] = world.unsigned();
    let ran = world.build(&world.local, &[urls, signatures, ("always-allow-substitutes", "true")]);
    assert!(ran.stdout.contains("\"Substituted\""), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn g3_what_nobody_has_signed_is_built_instead() {
    let Some(world) = world() else { return };
    let ran = world.build(&world.top, &[("substituters", &world.cache), ("require-sigs", "true")]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let message = format!("does not have a valid signature for path '{}'", world.outputs[0]);
    assert!(ran.stderr.contains(&message), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"Built\""), "{}", ran.stdout);
}

#[test]
fn d3_what_is_offered_and_broken_fails_unless_falling_back_is_fine() {
    let Some(world) = world() else { return };
    for archive in world.cached_archives() {
        fs::write(archive, "not an archive").unwrap();
    }
    let ran = world.build(&world.top, &world.unsigned());
    let stderr = ran.failed(1);
    assert!(stderr.contains("try '--fallback' to build derivation from source"), "{stderr}");
    assert!(ran.stdout.contains("\"TransientFailure\""), "{}", ran.stdout);
    let [urls, signatures] = world.unsigned();
    let ran = world.build(&world.top, &[urls, signatures, ("fallback", "true")]);
    assert!(ran.stdout.contains("\"Built\""), "{}{}", ran.stdout, ran.stderr);
    world.store.verify();
}

#[test]
fn g2_a_cache_that_is_away_breaks_nothing() {
    let Some(world) = world() else { return };
    let away = "http://127.0.0.1:1";
    let both = format!("{away} {}", world.cache);
    let ran = world.build(&world.top, &[("substituters", &both), ("require-sigs", "false")]);
    assert!(ran.stdout.contains("\"Substituted\""), "{}{}", ran.stdout, ran.stderr);
    let Some(world) = self::world() else { return };
    let ran = world.build(&world.top, &[("substituters", away)]);
    assert!(ran.stdout.contains("\"Built\""), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("building '") && ran.stderr.contains("-lib.drv'"), "{}", ran.stderr);
    let warnings = ran.stderr.lines().filter(|line| line.contains("warning:") && line.contains(away));
    assert_eq!(
        warnings.count(),
        1,
        "it is said which one, and once for the two that are wanted: {}",
        ran.stderr
    );
}

#[test]
fn g2_a_result_says_where_a_path_came_from_and_why_not_from_elsewhere() {
    let Some(world) = world() else { return };
    let empty = world.store.directory().join("empty");
    fs::create_dir(&empty).unwrap();
    let info = fs::read(world.store.directory().join("cache/nix-cache-info")).unwrap();
    fs::write(empty.join("nix-cache-info"), info).unwrap();
    let (away, empty) = ("http://127.0.0.1:1", format!("file://{}", empty.display()));
    let all = format!("{empty} {away} {}", world.cache);
    let origin = |ran: &Ran| {
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        told[0]["origins"][&world.outputs[0]].clone()
    };
    let reasons = |origin: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let passed_over = origin["passedOver"].as_array().unwrap().iter();
        let mut reasons: Vec<_> =
            passed_over.map(|one| (text(&one["reason"]), text(&one["substituter"]))).collect();
        reasons.sort();
        reasons
    };
    let reason = |name: &str, substituter: &str| (name.to_owned(), substituter.to_owned());

    // Signatures are wanted, and there are none.
    let ran = world.build(&world.top, &[("substituters", &all), ("require-sigs", "true")]);
    let untrusted = origin(&ran);
    assert!(ran.stdout.contains("\"Built\"") && untrusted["substituter"].is_null(), "{}", ran.stdout);
    let cache = reason("untrusted", &world.cache);
    assert_eq!(reasons(&untrusted), [reason("absent", &empty), cache, reason("unusable", away)]);

    world.store.go_back();
    let ran = world.build(&world.top, &[("substituters", &all), ("require-sigs", "false")]);
    let fetched = origin(&ran);
    assert_eq!(fetched["substituter"], json!(world.cache), "{}", ran.stdout);
    assert_eq!(reasons(&fetched)[0], reason("absent", &empty));

    world.store.go_back();
    for archive in world.cached_archives() {
        fs::write(archive, "not an archive").unwrap();
    }
    let [urls, signatures] = world.unsigned();
    let ran = world.build(&world.top, &[urls, signatures, ("fallback", "true")]);
    assert_eq!(reasons(&origin(&ran)), [reason("incomplete", &world.cache)], "{}", ran.stderr);
    assert!(origin(&ran)["substituter"].is_null() && ran.stdout.contains("\"Built\""), "{}", ran.stdout);
}

#[test]
fn d1_a_derivation_that_is_missing_is_fetched() {
    let Some(world) = world() else { return };
    world.cache_as_it_is(&world.top);
    world.store.nix().run("nix-store", ["--delete", &world.top]);
    let ran = world.build(&format!("{}^out", world.top), &world.unsigned());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains(&world.outputs[0]), "{}", ran.stdout);
    world.store.verify();
    let missing = world.top.replace("-top", "-gone");
    let ran = world.build(&format!("{missing}^out"), &world.unsigned());
    assert!(ran.failed(1).contains("cannot build missing derivation"), "{}", ran.stderr);
}

/// A cache that has a path and not what it refers to: that is built, and then the path is fetched.
#[test]
fn s2_d3_d4_d12_what_a_cache_lacks_of_a_closure_is_built_first() {
    let Some(world) = world() else { return };
    let lib =
        world.store.nix_lines("nix-store", ["-q", "--binding", "out", &world.lib_derivation()]).remove(0);
    let digest = lib.rsplit('/').next().unwrap()[..32].to_owned();
    fs::remove_file(world.store.directory().join(format!("cache/{digest}.narinfo"))).unwrap();
    // As a path it cannot be had, since nobody knows how to build what it needs.
    let ran = world.build(&world.outputs[0], &world.unsigned());
    let message = format!("some references of path '{}' could not be realised", world.outputs[0]);
    assert!(ran.failed(1).contains(&message), "{}", ran.stderr);
    let ran = world.build(&world.top, &world.unsigned());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("building '").count(), 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("\"Substituted\""), "{}", ran.stdout);
    world.store.verify();
}

#[test]
fn d4_sources_that_are_missing_are_fetched() {
    let Some(store) = SharedStore::find(env!("CARGO_BIN_EXE_kiln")) else { return };
    let store = store.option("sandbox", "false");
    let file = store.write("source", "text\n");
    let source = store.nix_lines("nix-store", ["--add", file.to_str().unwrap()]).remove(0);
    let derivation = store.instantiate(&format!(
        r#"derivation {{
            name = "it"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
            args = [ "-ec" "cat ${{builtins.storePath "{source}"}} > $out" ];
        }}"#
    ));
    let cache = format!("file://{}", store.directory().join("cache").display());
    store.nix().run("nix", ["copy", "--extra-experimental-features", "nix-command", "--to", &cache, &source]);
    // Something has lost it, though it is needed.
    let database = store.nix().state_dir().join("db/db.sqlite");
    let delete = format!("delete from ValidPaths where path = '{source}'");
    assert!(
        Command::new("sqlite3")
            .args(["-cmd", ".timeout 60000"])
            .arg(database)
            .arg(delete)
            .status()
            .unwrap()
            .success()
    );
    fs::remove_file(&source).unwrap();
    let world = World { store, top: derivation[0].clone(), local: String::new(), outputs: Vec::new(), cache };
    let ran = world.build(&world.top, &[("substituters", "")]);
    let message = format!("dependency '{source}' of '{}' does not exist", world.top);
    assert!(ran.failed(1).contains(&message), "{}", ran.stderr);
    let ran = world.build(&world.top, &world.unsigned());
    assert!(ran.stdout.contains("\"Built\""), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(fs::read_to_string(&source).unwrap(), "text\n");
}

/// What was told in `internal-json`.
fn records(told: &str) -> Vec<Value> {
    let records = told.lines().filter_map(|line| line.strip_prefix("@nix "));
    records.map(|json| serde_json::from_str(json).unwrap()).collect()
}

/// What the activity of a type has reported as results of a type, without repetitions and what is all zero.
fn reported(records: &[Value], activity: u64, result: u64, nothing: &Value) -> Vec<Value> {
    let is_start = |record: &&Value| record["action"] == "start" && record["type"] == activity;
    let id = &records.iter().find(is_start).unwrap()["id"];
    let is_result =
        |record: &&Value| record["action"] == "result" && record["id"] == *id && record["type"] == result;
    let mut reported: Vec<Value> =
        records.iter().filter(is_result).map(|record| record["fields"].clone()).collect();
    reported.retain(|fields| fields != nothing);
    reported.dedup();
    reported
}

/// Beginnings of substitutions and copies.
fn begun(records: &[Value]) -> Vec<(u64, Value)> {
    let begun = records.iter().filter(|record| record["action"] == "start");
    let begun = begun.map(|record| (record["type"].as_u64().unwrap(), record["fields"].clone()));
    begun.filter(|(kind, _)| matches!(kind, 100 | 101 | 108)).collect()
}

const SUBSTITUTIONS: u64 = 103;
const REALISE: u64 = 102;
const PROGRESS: u64 = 105;
const SET_EXPECTED: u64 = 106;

impl World {
    /// What real Nix tells when it substitutes the target.
    fn told_by_nix(&self, target: &str) -> Vec<Value> {
        let options = ["--option", "substitute", "true", "--option", "substituters", &self.cache];
        let more = ["--option", "require-sigs", "false", "--log-format", "internal-json", "-r", target];
        let output = self.store.nix().output("nix-store", options.iter().chain(&more));
        records(&String::from_utf8_lossy(&output.stderr))
    }

    fn told_by_kiln(&self, target: &str) -> Vec<Value> {
        let build = ["build", "--no-link", "--log-format", "internal-json", target];
        records(&self.run(&build, &self.unsigned()).stderr)
    }
}

#[test]
fn s10_g7_substitutions_and_their_bytes_are_counted_as_real_nix_does() {
    let Some(world) = world() else { return };
    let by_nix = world.told_by_nix(&world.top);
    world.store.go_back();
    let by_kiln = world.told_by_kiln(&world.top);
    let numbers = |records: &[Value]| reported(records, SUBSTITUTIONS, PROGRESS, &json!([0, 0, 0, 0]));
    assert_eq!(numbers(&by_kiln), numbers(&by_nix));
    assert_eq!(numbers(&by_kiln).last(), Some(&json!([2, 2, 0, 0])));
    for kind in [100, 101] {
        let sizes = |records: &[Value]| -> Vec<Value> {
            let all = reported(records, REALISE, SET_EXPECTED, &json!([kind, 0]));
            let mut all: Vec<Value> = all.into_iter().filter(|fields| fields[0] == kind).collect();
            all.dedup();
            all
        };
        assert_eq!(sizes(&by_kiln), sizes(&by_nix));
        assert_eq!(sizes(&by_kiln).len(), 2, "the path's, and with it its reference's");
    }
    assert_eq!(begun(&by_kiln), begun(&by_nix));
}

#[test]
fn s10_g7_what_breaks_has_failed_and_what_nobody_offers_has_not() {
    let Some(world) = world() else { return };
    for archive in world.cached_archives() {
        fs::write(archive, "not an archive").unwrap();
    }
    let by_nix = world.told_by_nix(&world.top);
    world.store.go_back();
    let by_kiln = world.told_by_kiln(&world.top);
    let last = |records: &[Value]| {
        reported(records, SUBSTITUTIONS, PROGRESS, &json!([0, 0, 0, 0])).last().unwrap().clone()
    };
    // The library; what is on top of it only lacked that.
    assert_eq!(last(&by_nix)[3], 1);
    assert_eq!(last(&by_kiln), json!([0, 0, 0, 1]));

    let Some(world) = self::world() else { return };
    for entry in fs::read_dir(world.store.directory().join("cache")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "narinfo") {
            fs::remove_file(path).unwrap();
        }
    }
    let by_kiln = world.told_by_kiln(&world.top);
    let numbers = reported(&by_kiln, SUBSTITUTIONS, PROGRESS, &json!([0, 0, 0, 0]));
    assert!(numbers.is_empty(), "{numbers:?}");
}

#[test]
fn what_is_known_of_caches_is_told() {
    let Some(world) = world() else { return };
    let server = WebServer::serving(&world.store.directory().join("cache"));
    let url = server.url();
    let settings = [("substituters", url.as_str()), ("require-sigs", "false")];
    let status = |more: &[&str]| {
        let arguments = [&["cache", "status", "--json"], more].concat();
        let told: Value = serde_json::from_str(&world.run(&arguments, &settings).stdout).unwrap();
        told[0].clone()
    };
    assert_eq!(status(&[])["condition"], "unknown");
    assert!(world.build(&world.top, &settings).stdout.contains("\"Substituted\""));
    let well = status(&[]);
    assert_eq!((&well["url"], &well["condition"]), (&json!(url), &json!("well")));
    assert_eq!((&well["present"], &well["restsFor"]), (&json!(2), &Value::Null));
    let port = server.url();
    drop(server);
    // What it has is remembered, but not to be had.
    world.store.go_back();
    world.build(&world.top, &settings);
    let failed = status(&[&port]);
    assert_eq!(failed["condition"], "resting", "{failed}");
    assert!(failed["lastFailure"].as_str().unwrap().contains("couldn't connect"), "{failed}");
    assert_eq!(status(&["--reset", &port])["restsFor"], Value::Null);
    let text = world.run(&["cache", "status"], &settings).stdout;
    assert!(
        text.starts_with(&format!("{url}\n  condition: unknown\n")),
        "nobody knows after a reset: {text}"
    );
}

#[test]
fn what_a_cache_says_of_paths_is_told_as_real_nix_does() {
    let Some(world) = world() else { return };
    let top = &world.outputs[0];
    let options = ["--json", "--closure-size", "--store", &world.cache];
    // What is usual for this store, but for the store.
    let local = world.store.kiln_command([""; 0]);
    let kiln = |path: &str| -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.env_clear().envs(local.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["store", "info"]).args(options).arg(path).output().unwrap().into()
    };
    let missing = kiln(&world.top.replace(".drv", ""));
    assert!(missing.failed(1).contains("is not valid in 'file:"), "{}", missing.stderr);
    let kiln = kiln(top);
    assert_eq!(kiln.code, Some(0), "{}", kiln.stderr);
    let kiln: Value = serde_json::from_str(&kiln.stdout).unwrap();
    let kiln = &kiln[top];
    let arguments = ["path-info", "--extra-experimental-features", "nix-command"].iter().chain(&options);
    let nix = world.store.nix().run("nix", arguments.copied().chain([top.as_str()]));
    let nix: Value = serde_json::from_str(&nix).unwrap();
    let nix = &nix[0];
    for key in
        ["narSize", "closureSize", "closureDownloadSize", "downloadSize", "references", "deriver", "url"]
    {
        assert_eq!(kiln[key], nix[key], "{key}: {kiln} and {nix}");
        assert_ne!(kiln[key], Value::Null, "{key}");
    }
    assert!(kiln["closureSize"].as_u64() > kiln["narSize"].as_u64(), "{kiln}");
}
