//! Recipes stand for the same derivations as Nix expressions with the same attributes: one `.drv` file, by its path and by its
//! bytes, whoever writes it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::fs;

use kiln_testing::SharedStore;
use serde_json::Value;

const RECIPE: &str = r#"
[defaults]
builder = "/bin/sh"
env = { PATH = "/usr/bin:/bin" }

[source.data]
path = "data"

[source.file]
path = "data/file"
name = "renamed"

[derivation.lower]
args = ["-c", "mkdir $out $dev; cp -r ${source.data}/. $out; echo $out > $dev/lib"]
outputs = ["out", "dev"]
env = { weird = "tab\t newline\n quote\" backslash\\ dollar$", number = 42, yes = true, no = false, list = ["a", 1, true] }

[derivation.download]
name = "download.txt"
args = ["-c", "echo hello > $out"]
outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="

[derivation.structured]
args = ["-c", "echo > ${placeholder.out}"]
structuredAttrs = true
env = { deep = { er = ["x", { y = 1 }] }, lower = "${lower}", "é" = "☃" }

[derivation.upper]
args = ["-c", "cat ${source.file} $download > $out; echo ${lower.dev} ${structured} >> $out"]
env = { download = "${download}", preferLocalBuild = true, passAsFile = ["text"], text = "a text" }
"#;

const EXPRESSION: &str = r#"
let
  mk = attributes: derivation ({
    system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
  } // attributes);
  data = builtins.path { path = ./data; name = "data"; };
  file = builtins.path { path = ./data/file; name = "renamed"; };
in
rec {
  lower = mk {
    name = "lower";
    args = [ "-c" "mkdir $out $dev; cp -r ${data}/. $out; echo $out > $dev/lib" ];
    outputs = [ "out" "dev" ];
    weird = "tab\t newline\n quote\" backslash\\ dollar$";
    number = 42; yes = true; no = false; list = [ "a" 1 true ];
  };
  download = mk {
    name = "download.txt";
    args = [ "-c" "echo hello > $out" ];
    outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
  };
  structured = mk {
    name = "structured";
    args = [ "-c" "echo > ${builtins.placeholder "out"}" ];
    __structuredAttrs = true;
    deep.er = [ "x" { y = 1; } ];
    lower = "${lower}";
    "é" = "☃";
  };
  upper = mk {
    name = "upper";
    args = [ "-c" "cat ${file} $download > $out; echo ${lower.dev} ${structured} >> $out" ];
    inherit download;
    preferLocalBuild = true; passAsFile = [ "text" ]; text = "a text";
  };
}
"#;

/// A store, the recipe and the expression beside the sources that they use.
fn prepared() -> Option<SharedStore> {
    let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?;
    fs::create_dir(store.directory().join("data")).unwrap();
    store.write("data/file", "contents\n");
    store.write("data/other", [0xff, 0x00]);
    std::os::unix::fs::symlink("file", store.directory().join("data/link")).unwrap();
    store.write("kiln.toml", RECIPE);
    store.write("default.nix", EXPRESSION);
    Some(store)
}

fn by_nix(store: &SharedStore) -> BTreeSet<String> {
    let expression = store.directory().join("default.nix");
    store.nix_lines("nix-instantiate", [expression]).into_iter().collect()
}

/// The derivations that a dry run says would be built.
fn by_kiln(store: &SharedStore) -> BTreeSet<String> {
    let ran = store.kiln(["build", "--dry-run", "--json"]);
    let missing: Value = serde_json::from_str(&ran.lines().concat()).unwrap();
    serde_json::from_value(missing["willBuild"].clone()).unwrap()
}

#[test]
fn either_writes_what_the_other_would() {
    let Some(store) = prepared() else { return };
    store.nix_lines("nix-store", ["--init"]);
    store.save();
    let of_nix = by_nix(&store);
    let written_by_nix = store.contents();
    assert_eq!(of_nix.len(), 4);
    store.go_back();
    assert_eq!(by_kiln(&store), of_nix);
    let written_by_kiln = store.contents();
    // Hashes, references, content addresses, outputs; files with their modes.
    assert_eq!(written_by_kiln.rows, written_by_nix.rows);
    assert_eq!(written_by_kiln.files, written_by_nix.files);
    store.verify();
}

#[test]
fn both_show_a_derivation_alike() {
    let Some(store) = prepared() else { return };
    for path in by_nix(&store) {
        let shown = store.kiln(["derivation", "show", "--json-version", "1", &path]);
        let shown: Value = serde_json::from_str(&shown.lines().concat()).unwrap();
        let by_nix = store.nix().run("nix", ["show-derivation", &path]);
        assert_eq!(shown, serde_json::from_str::<Value>(&by_nix).unwrap());
    }
}

#[test]
fn what_is_built_from_an_expression_is_not_built_again_for_a_recipe() {
    let Some(store) = prepared() else { return };
    let derivations = by_nix(&store);
    let built =
        store.nix_lines("nix-store", ["--realise"].into_iter().chain(derivations.iter().map(String::as_str)));
    let ran = store.kiln(["build", "--no-link"]);
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.lines().into_iter().collect::<BTreeSet<_>>(), built.iter().map(String::as_str).collect());
    assert_eq!(by_kiln(&store), BTreeSet::new());
}
