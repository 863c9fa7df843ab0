//! The same derivations built by Kiln and by real Nix in equal stores: they leave the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use kiln_testing::{SharedStore, StoreContents};

const CLOSURE: &str = include_str!("data/closure.nix");

fn store() -> Option<SharedStore> {
    // Without a sandbox for both, since Nix needs root for one. The number of processors is Nix 2.8's own to settle, and its
    // successors leave that to builders, as Kiln does.
    SharedStore::find(env!("CARGO_BIN_EXE_kiln"))
        .map(|store| store.option("sandbox", "false").option("cores", "2"))
}

/// How a build ended: its exit code, and what is in the store then.
type End = (Option<i32>, StoreContents);

/// Builds by both, each time from the same store.
fn build_apart(store: &SharedStore, derivations: &[String], options: &[&str]) -> [End; 2] {
    store.save();
    let derivations = || options.iter().copied().chain(derivations.iter().map(String::as_str));
    let by_nix = store.nix().output("nix-store", ["--realise"].into_iter().chain(derivations()));
    let nix = (by_nix.status.code(), store.contents());
    store.go_back();
    let by_kiln = store.kiln(["build", "--no-link"].into_iter().chain(derivations()));
    let kiln = (by_kiln.code, store.contents());
    store.verify();
    [nix, kiln]
}

fn instantiate(store: &SharedStore, attribute: &str) -> Vec<String> {
    let lines = store.instantiate(&format!("({CLOSURE}).{attribute}"));
    lines.iter().map(|line| line.split('!').next().unwrap().to_owned()).collect()
}

/// Compares what is valid in two stores. Nix leaves the invalid outputs of a failed builder where they are, until a
/// collection or the next try; Kiln deletes them.
fn assert_same(of_nix: &StoreContents, of_kiln: &StoreContents) {
    let rows = |contents: &StoreContents| BTreeSet::from_iter(contents.rows.clone());
    assert_no_difference(&rows(of_nix), &rows(of_kiln));
    let is_valid = |path: &str| {
        let name = format!("/{}|", path.split('/').next().unwrap());
        of_nix.rows.iter().any(|row| row.starts_with("ValidPaths|") && row.contains(&name))
    };
    let files = |contents: &StoreContents| -> BTreeSet<String> {
        contents.files.iter().map(|(path, status)| format!("{path}: {status}")).collect()
    };
    let valid = files(of_nix).into_iter().filter(|line| is_valid(line.split(':').next().unwrap())).collect();
    assert_no_difference(&valid, &files(of_kiln));
    // Nix leaves the locks of what has failed.
    assert_eq!(of_kiln.locks, [""; 0]);
    let logs = |contents: &StoreContents| -> BTreeSet<String> {
        contents.logs.iter().map(|(path, log)| format!("{path}: {log}")).collect()
    };
    assert_no_difference(&logs(of_nix), &logs(of_kiln));
}

fn assert_no_difference(of_nix: &BTreeSet<String>, of_kiln: &BTreeSet<String>) {
    let only_nix: Vec<_> = of_nix.difference(of_kiln).collect();
    let only_kiln: Vec<_> = of_kiln.difference(of_nix).collect();
    assert!(
        only_nix.is_empty() && only_kiln.is_empty(),
        "only Nix: {only_nix:#?}, only Kiln: {only_kiln:#?}"
    );
}

#[test]
fn what_succeeds_leaves_the_same() {
    let Some(store) = store() else { return };
    // But for structured attributes, of which Nix 2.8 tells builders less than its successors.
    let derivations = instantiate(&store, "plain");
    let [nix, kiln] = build_apart(&store, &derivations, &[]);
    assert_eq!((nix.0, kiln.0), (Some(0), Some(0)));
    assert_same(&nix.1, &kiln.1);
    assert!(kiln.1.rows.len() > 50 && kiln.1.files.len() > 30, "{} rows", kiln.1.rows.len());
}

/// What fails leaves no row and no file, with the same exit code and the same log; an output with another hash than stated
/// becomes valid where it belongs.
#[test]
fn what_fails_leaves_the_same() {
    let Some(store) = store() else { return };
    for attribute in [
        "exits",
        "makesNothing",
        "makesHalf",
        "wrongHash",
        "notFlat",
        "cycle",
        "refersTooFar",
        "special",
        "dependsOnFailure",
        "elsewhere",
    ] {
        let derivations = instantiate(&store, attribute);
        let [nix, kiln] = build_apart(&store, &derivations, &[]);
        // Nix 2.8 has no exit code of its own for a derivation that cannot be built here; its successors have.
        let expected = if attribute == "elsewhere" { Some(100) } else { nix.0 };
        assert_eq!(kiln.0, expected, "{attribute}: exit code");
        assert_same(&nix.1, &kiln.1);
    }
}

#[test]
fn what_does_not_depend_on_a_failure_is_built_by_both() {
    let Some(store) = store() else { return };
    let derivations = [instantiate(&store, "dependsOnFailure"), instantiate(&store, "quiet")].concat();
    let [nix, kiln] = build_apart(&store, &derivations, &["--keep-going"]);
    assert_eq!((nix.0, kiln.0), (Some(100), Some(100)));
    assert_same(&nix.1, &kiln.1);
}

/// Builders find the same world: variables, directories, files, descriptors, limits.
#[test]
fn builders_find_the_same() {
    let script = "env | sort; pwd; umask; ls -A; echo > made; ls -l made | cut -c1-10; ls /proc/self/fd; cat /proc/self/fdinfo/0 | \
        head -2; stty </dev/stdin 2>&1; test -t 2 && echo terminal; ulimit -c; cat $NIX_ATTRS_SH_FILE $textPath < /dev/null; \
        readlink /proc/self/exe; echo $0 $#; cat /proc/self/cmdline | tr '\\0' '\\n'; ls -nd $NIX_STORE > /dev/null; \
        grep -E '^(Sig(Blk|Ign)|NoNewPrivs|Seccomp):' /proc/self/status > /dev/null; exec 0<&-; echo done; echo > $out";
    let Some(store) = store() else { return };
    let derivation = format!(
        "derivation {{ name = \"world\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" ''{script}'' ]; \
         PATH = \"/usr/bin:/bin\"; empty = \"\"; newline = \"a\\nb\"; text = \"a text\"; passAsFile = \"text\"; HOME = \"/own\"; }}"
    );
    let derivations = store.instantiate(&derivation);
    let [nix, kiln] = build_apart(&store, &derivations, &[]);
    assert_eq!((nix.0, kiln.0), (Some(0), Some(0)));
    // Build directories are in different places.
    let log = |end: &End| end.1.logs.values().next().unwrap().replace("\\n", "\n");
    let place =
        |log: &str| log.lines().find_map(|line| line.strip_prefix("NIX_BUILD_TOP=")).unwrap().to_owned();
    let [of_nix, of_kiln] = [log(&nix), log(&kiln)].map(|log| log.replace(&place(&log), "BUILD"));
    assert_eq!(of_kiln, of_nix);
    assert!(of_kiln.ends_with("done\n"), "{of_kiln}");
    assert_eq!(kiln.1.rows, nix.1.rows);
}
