//! What outputs of content-addressed derivations were built as, at every kind of destination.

use std::process::Command;

use kiln_testing::SharedStore;

use crate::daemons::{DAEMONS, Served};
use crate::world::{World, files};

/// An output whose path follows from its content, on top of another one.
const FLOATING: &str = r#"
let
  mk = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" script ];
    PATH = "/usr/bin:/bin";
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  lib = mk "lib" "echo lib > $out";
in mk "top" "echo ${lib} > $out""#;

const FEATURES: &str = "nix-command ca-derivations";

/// A store in which it was built; the derivation, its output, and the realisation's name in a cache.
fn world() -> Option<(World, String, String)> {
    let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?
        .option("sandbox", "false")
        .option("experimental-features", FEATURES);
    let derivation = store.instantiate(FLOATING).remove(0);
    let output = store.build(std::slice::from_ref(&derivation)).remove(0);
    let closure = store.nix_lines("nix-store", ["-qR", &output]).into_iter().collect();
    let world =
        World { store, top: output.clone(), closure, secret_key: "".into(), public_key: String::new() };
    Some((world, derivation, output))
}

/// What the database of another store knows as realised.
fn realised(world: &World, name: &str) -> String {
    let database = world.place(name).join("state/db/db.sqlite");
    let query = "select drvPath || '!' || outputName || ' ' || path from Realisations join ValidPaths on outputPath = ValidPaths.id";
    let output =
        Command::new("sqlite3").args(["-cmd", ".timeout 60000"]).arg(database).arg(query).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn realisations_go_along_to_a_cache_and_a_local_store() {
    let Some((world, derivation, output)) = world() else { return };
    let target = format!("{derivation}^out");
    world.copy(&["--to", &world.cache("cache", ""), &target]);
    let found = files(&world.place("cache/realisations"), "doi");
    let [(id, text)] = &found.iter().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
    let base_name = output.rsplit('/').next().unwrap();
    assert!(id.starts_with("sha256:") && id.ends_with("!out.doi"), "{id}");
    assert!(text.contains(&format!("\"outPath\":\"{base_name}\"")), "{text}");

    world.copy(&["--to", &world.other_store("third"), &target]);
    assert_eq!(realised(&world, "third").trim(), format!("{} {output}", id.trim_end_matches(".doi")));
    // Real Nix takes it for built.
    let options = ["--store", &world.other_store("third")];
    let shown = world.nix(&[&["realisation", "info", "--json"], &options[..], &[&output]].concat());
    assert!(shown.contains(base_name), "{shown}");
}

#[test]
fn realisations_go_along_to_daemons() {
    for program in DAEMONS {
        let Some((world, derivation, output)) = world() else { return };
        let served = Served::start(&world, program, "other", "");
        world.copy(&["--to", &served.url(), &format!("{derivation}^out")]);
        let known = realised(&world, "other");
        let (id, path) = known.trim().split_once(' ').unwrap();
        assert!(id.starts_with("sha256:") && id.ends_with("!out"), "{program}: {known}");
        assert_eq!(path, output, "{program}");
    }
}
