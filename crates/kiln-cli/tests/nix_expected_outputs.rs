//! Derivations that real Nix wrote, built by Kiln below `/nix/store`: outputs are those that Nix has once made of them, as
//! written down in `data/cases/outputs.tsv`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use kiln_testing::{Kiln, NixPeer};
use serde_json::Value;

/// The builders expect `/bin/sh` to be bash.
const SANDBOX_PATHS: &str = "/bin/sh=/usr/bin/bash /bin/mkdir=/usr/bin/mkdir /bin/cat=/usr/bin/cat /bin/true=/usr/bin/true \
    /usr /lib /lib64?";

/// The expressions, and the files that they read.
const EXPRESSIONS: [(&str, &[u8]); 4] = [
    ("cases.nix", include_bytes!("data/cases/cases.nix")),
    ("bytes.bin", include_bytes!("data/cases/bytes.bin")),
    ("fod-rec.sha1", include_bytes!("data/cases/fod-rec.sha1")),
    ("fod-rec.sha256", include_bytes!("data/cases/fod-rec.sha256")),
];

/// A line of the table.
#[derive(Clone, Debug)]
struct Expected {
    attribute: &'static str,
    derivation: String,
    path: String,
    /// Hash and size of the archive, and references; nothing if the build fails.
    made: Option<(&'static str, u64, BTreeSet<String>)>,
}

fn table() -> Vec<Expected> {
    let lines = include_str!("data/cases/outputs.tsv").lines().filter(|line| !line.starts_with('#'));
    let full = |name: &str| format!("/nix/store/{name}");
    lines
        .map(|line| {
            let columns: Vec<&'static str> = line.split('\t').collect();
            let references = columns.get(6).unwrap_or(&"").split_whitespace().map(full).collect();
            let made = columns.get(4).map(|hash| (*hash, columns[5].parse().unwrap(), references));
            Expected { attribute: columns[0], derivation: full(columns[1]), path: full(columns[3]), made }
        })
        .collect()
}

/// A store of Kiln with the derivations of all attributes of the table, written by real Nix.
fn instantiated(table: &[Expected]) -> Option<Kiln> {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("sandbox-paths", SANDBOX_PATHS);
    let nix = NixPeer::find(&kiln.directory().join("peer"))?;
    for (name, contents) in EXPRESSIONS {
        kiln.write(name, contents);
    }
    let mut command = nix.command_in_root("nix-instantiate", &kiln.root());
    command.arg(kiln.directory().join(EXPRESSIONS[0].0));
    let attributes: BTreeSet<&str> = table.iter().map(|expected| expected.attribute).collect();
    command.args(attributes.into_iter().flat_map(|attribute| ["-A", attribute]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // An output that isn't called 'out' is named, too.
    let written = String::from_utf8(output.stdout).unwrap();
    let written: BTreeSet<&str> = written.lines().map(|line| line.split('!').next().unwrap()).collect();
    assert_eq!(written, table.iter().map(|expected| expected.derivation.as_str()).collect());
    Some(kiln)
}

/// What the store knows of all its paths.
fn infos(kiln: &Kiln) -> BTreeMap<String, Value> {
    let all = kiln.run(["store", "query", "--all"]);
    let ran = kiln.run(["store", "info", "--json"].into_iter().chain(all.lines()));
    serde_json::from_str(ran.lines().concat().as_str()).unwrap()
}

#[test]
fn what_can_be_built_is_what_nix_made_of_it() {
    let table = table();
    let Some(kiln) = instantiated(&table) else { return };
    let good: Vec<&Expected> = table.iter().filter(|expected| expected.made.is_some()).collect();
    let derivations: BTreeSet<&str> = good.iter().map(|expected| expected.derivation.as_str()).collect();
    let ran = kiln.run(["build", "--no-link"].into_iter().chain(derivations));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let infos = infos(&kiln);
    for expected in good {
        let (hash, size, references) = expected.made.clone().unwrap();
        let info = &infos[&expected.path];
        let sri = info["narHash"].as_str().unwrap();
        assert_eq!(
            format!("sha256:{}", kiln.run(["hash", "convert", "--nix32", sri]).line()),
            hash,
            "{expected:?}"
        );
        assert_eq!(info["narSize"].as_u64(), Some(size), "{expected:?}");
        let found: BTreeSet<String> = serde_json::from_value(info["references"].clone()).unwrap();
        assert_eq!(found, references, "{}", expected.path);
        assert!(info["ultimate"].as_bool().unwrap(), "{expected:?}");
        // Several derivations give the same fixed output; who came first is its deriver.
        let derivers: Vec<&str> = table
            .iter()
            .filter(|other| other.path == expected.path)
            .map(|other| other.derivation.as_str())
            .collect();
        assert!(derivers.contains(&info["deriver"].as_str().unwrap()), "{expected:?}");
    }
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn what_cannot_be_built_fails_and_leaves_nothing_valid() {
    let table = table();
    let Some(kiln) = instantiated(&table) else { return };
    let bad: Vec<&Expected> = table.iter().filter(|expected| expected.made.is_none()).collect();
    assert!(bad.len() >= 7);
    for expected in &bad {
        let ran = kiln.run(["build", "--no-link", &expected.derivation]);
        // What a builder made and may not make is no failure of the builder.
        let code = if expected.attribute == "badHash" { 102 } else { 1 };
        assert_eq!(ran.code, Some(code), "{}: {}", expected.attribute, ran.stderr);
    }
    let infos = infos(&kiln);
    for expected in bad {
        assert!(!infos.contains_key(&expected.path), "{} is not valid", expected.path);
        assert!(!kiln.real(&expected.path).exists(), "{} is not there", expected.path);
    }
}
