//! Real Nix and Kiln give the same answers about one store, whoever of them has made what is in it.

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

const CLOSURE: &str = include_str!("data/closure.nix");

fn store() -> Option<SharedStore> {
    SharedStore::find(env!("CARGO_BIN_EXE_kiln"))
}

/// Derivations of the expression.
fn instantiate(store: &SharedStore, attribute: &str) -> Vec<String> {
    store.instantiate(&format!("({CLOSURE}).{attribute}"))
}

fn sorted(lines: Vec<String>) -> BTreeSet<String> {
    lines.into_iter().collect()
}

/// What Nix answers to a question about a path, each line once.
fn nix_answer(store: &SharedStore, question: &str, path: &str) -> BTreeSet<String> {
    sorted(store.nix_lines("nix-store", ["-q", question, path]))
}

fn kiln_answer(store: &SharedStore, arguments: &[&str]) -> BTreeSet<String> {
    store.kiln(arguments).lines().into_iter().map(str::to_owned).collect()
}

/// Asks both about everything in the store.
fn assert_same_answers(store: &SharedStore) {
    store.verify();
    assert_eq!(store.kiln(["store", "verify", "--check-contents"]).lines(), [""; 0]);
    let all = kiln_answer(store, &["store", "query", "--all"]);
    let info = store.kiln(["store", "info", "--json"].into_iter().chain(all.iter().map(String::as_str)));
    let by_kiln: Value = serde_json::from_str(&info.lines().concat()).unwrap();
    assert_eq!(all.len(), by_kiln.as_object().unwrap().len());
    let by_nix: Value =
        serde_json::from_str(&store.nix().run("nix", ["path-info", "--json", "--all"])).unwrap();
    assert_eq!(by_nix.as_array().unwrap().len(), all.len());
    for info in by_nix.as_array().unwrap() {
        assert_same_info(info, &by_kiln[info["path"].as_str().unwrap()]);
    }
}

/// Nix leaves out what it doesn't know.
fn assert_same_info(by_nix: &Value, by_kiln: &Value) {
    for key in ["ca", "deriver", "narHash", "narSize", "registrationTime"] {
        assert_eq!(by_nix[key], by_kiln[key], "{key} of {}", by_nix["path"]);
    }
    let list = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(&by_nix["references"]), list(&by_kiln["references"]), "{}", by_nix["path"]);
    assert_eq!(list(&by_nix["signatures"]), list(&by_kiln["signatures"]), "{}", by_nix["path"]);
    assert_eq!(by_nix["ultimate"].as_bool().unwrap_or(false), by_kiln["ultimate"].as_bool().unwrap());
}

/// Asks both everything about one path.
fn assert_same_answers_about(store: &SharedStore, path: &str) {
    for question in ["--references", "--referrers", "--deriver"] {
        let answer = kiln_answer(store, &["store", "query", question, path]);
        assert_eq!(answer, nix_answer(store, question, path), "{question} {path}");
    }
    assert_eq!(kiln_answer(store, &["store", "closure", path]), nix_answer(store, "--requisites", path));
    let closure = kiln_answer(store, &["store", "closure", "--reverse", path]);
    assert_eq!(closure, nix_answer(store, "--referrers-closure", path));
    if path.ends_with(".drv") {
        let outputs = kiln_answer(store, &["store", "query", "--outputs", path]);
        assert_eq!(outputs, nix_answer(store, "--outputs", path));
    }
    assert_same_contents(store, path);
}

fn assert_same_contents(store: &SharedStore, path: &str) {
    let info = store.kiln(["store", "info", "--json", path]);
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    let info = &info[path];
    assert_eq!(
        nix_answer(store, "--size", path),
        BTreeSet::from([info["narSize"].as_u64().unwrap().to_string()])
    );
    let hash = store.kiln(["hash", "convert", "--nix32", info["narHash"].as_str().unwrap()]);
    assert_eq!(nix_answer(store, "--hash", path), BTreeSet::from([format!("sha256:{}", hash.line())]));
    let by_nix = store.nix().output("nix-store", ["--dump", path]).stdout;
    let by_kiln = store.kiln_command(["store", "dump", path]).output().unwrap().stdout;
    assert!(by_nix == by_kiln, "{path}: the archives differ");
    let archive = store.write("archive", by_nix);
    let hash_of_archive = store.kiln(["hash", "file", "--sri", archive.to_str().unwrap()]);
    assert_eq!(hash_of_archive.line(), info["narHash"].as_str().unwrap());
    // Nix prints a tree of references, each with its root first.
    let tree = store.nix_lines("nix-store", ["-q", "--tree", path]);
    assert_eq!(tree[0], path);
    let below = nix_answer(store, "--requisites", path);
    assert!(below.iter().all(|reference| tree.iter().any(|line| line.contains(reference.as_str()))));
}

#[test]
fn nix_accepts_what_kiln_built() {
    let Some(store) = store() else { return };
    let built = store.build(&instantiate(&store, "good"));
    assert_eq!(built.len(), 9);
    assert_same_answers(&store);
    let quiet = built.iter().find(|path| path.ends_with("-quiet")).unwrap();
    let derivation = nix_answer(&store, "--deriver", quiet).pop_first().unwrap();
    for path in nix_answer(&store, "--requisites", quiet).iter().chain([&derivation]) {
        assert_same_answers_about(&store, path);
    }
    let again = store.nix_lines("nix-store", ["--realise", "--dry-run", &built[0]]);
    assert_eq!(again, [""; 0], "Nix has nothing to build");
}

#[test]
fn kiln_accepts_what_nix_built() {
    let Some(store) = store() else { return };
    let derivations = instantiate(&store, "good");
    store.nix_lines("nix-store", ["--realise"].into_iter().chain(derivations.iter().map(String::as_str)));
    assert_same_answers(&store);
    let ran = store.kiln(["build", "--no-link"].into_iter().chain(derivations.iter().map(String::as_str)));
    assert_eq!(ran.lines().len(), 9);
    assert_eq!(ran.stderr, "", "Kiln has nothing to build");
}

#[test]
fn kiln_accepts_what_nix_added() {
    let Some(store) = store() else { return };
    let tree = store.directory().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("a"), "content").unwrap();
    std::os::unix::fs::symlink("a", tree.join("b")).unwrap();
    let file = store.write("file", "content");
    let (tree, file) = (tree.to_str().unwrap(), file.to_str().unwrap());
    let mut added = Vec::new();
    for arguments in [
        vec!["--add", tree],
        vec!["--add", file],
        vec!["--add-fixed", "sha256", file],
        vec!["--add-fixed", "--recursive", "sha256", tree],
        vec!["--add-fixed", "--recursive", "sha1", tree],
        vec!["--add-fixed", "md5", file],
    ] {
        added.extend(store.nix_lines("nix-store", arguments));
    }
    added.extend(instantiate(&store, "upper"));
    assert_same_answers(&store);
    // What both can add is at one place.
    for (path, arguments) in
        [(0, ["--mode", "nar", tree]), (1, ["--mode", "nar", file]), (2, ["--mode", "flat", file])]
    {
        let ran = store.kiln(["store", "add"].into_iter().chain(arguments));
        assert_eq!(ran.line(), added[path]);
    }
}

#[test]
fn each_builds_on_what_the_other_built() {
    let Some(store) = store() else { return };
    let [lower, upper, quiet] = ["lower", "upper", "quiet"].map(|name| instantiate(&store, name).remove(0));
    store.nix_lines("nix-store", ["--realise", &lower]);
    let ran = store.kiln(["build", "--no-link", &upper]);
    ran.line();
    assert!(ran.stderr.contains(&format!("building '{upper}'")), "{}", ran.stderr);
    assert!(!ran.stderr.contains(&lower), "Nix has built that: {}", ran.stderr);
    let output = store.nix().output("nix-store", ["--realise", &quiet]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("building '{quiet}'")), "{said}");
    assert!(!said.contains(&upper), "Kiln has built that: {said}");
    assert_same_answers(&store);
}

#[test]
fn both_read_the_logs_of_either() {
    let Some(store) = store() else { return };
    let [by_kiln, by_nix] = ["upper", "loud"].map(|name| instantiate(&store, name).remove(0));
    store.build(std::slice::from_ref(&by_kiln));
    store.nix_lines("nix-store", ["--realise", &by_nix]);
    let numbers: String = (1..=3000).map(|number| format!("{number}\n")).collect();
    for (derivation, log) in [
        (by_kiln, b"building upper\nwithout a newline at the end".to_vec()),
        (by_nix, [b"caf\xe9\n", numbers.as_bytes()].concat()),
    ] {
        let output = store.nix_lines("nix-store", ["-q", "--outputs", &derivation]).remove(0);
        for path in [&derivation, &output] {
            assert_eq!(store.nix().output("nix-store", ["-l", path]).stdout, log, "nix-store -l {path}");
            assert_eq!(store.nix().output("nix", ["log", path]).stdout, log, "nix log {path}");
            let by_kiln = store.kiln_command(["log", path]).output().unwrap();
            assert_eq!(by_kiln.stdout, log, "kiln log {path}");
        }
    }
}

#[test]
fn what_kiln_built_can_be_exported_deleted_and_imported_by_nix() {
    let Some(store) = store() else { return };
    let quiet = store.build(&instantiate(&store, "quiet")).remove(0);
    let closure = store.nix_lines("nix-store", ["-q", "--requisites", &quiet]);
    let before = store.contents();
    let exported =
        store.nix().output("nix-store", ["--export"].into_iter().chain(closure.iter().map(String::as_str)));
    assert!(exported.status.success());
    let exported = store.write("exported", exported.stdout);
    store.nix_lines("nix-store", ["--gc"]);
    assert_eq!(kiln_answer(&store, &["store", "query", "--all"]), BTreeSet::new());
    let mut import = store.nix().command("nix-store");
    import.arg("--import").stdin(fs::File::open(exported).unwrap());
    assert!(import.output().unwrap().status.success());
    assert_same_answers(&store);
    let after = store.contents();
    for path in closure {
        let name = path.rsplit('/').next().unwrap().to_owned();
        assert_eq!(after.files[&name], before.files[&name]);
    }
}
