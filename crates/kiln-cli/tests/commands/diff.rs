use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::scratch::{Outcome, Scratch};

/// Builds that leave the time of the build, as `date` prints it.
const RECIPE: &str = r#"
[derivation.first]
builder = "/bin/sh"
args = ["-c", "mkdir $out; echo same > $out/same; echo Built on $(TZ=UTC date -d @1704067200 +%FT%TZ) > $out/info"]
env.PATH = "/bin:/usr/bin"

[derivation.second]
builder = "/bin/sh"
args = ["-c", "mkdir $out; echo same > $out/same; echo Built on $(TZ=UTC date -d @1735776000 +%FT%TZ) > $out/info"]
env.PATH = "/bin:/usr/bin"
"#;

/// The text of a comparison that found differences, without the lines that name what was compared.
#[track_caller]
fn differences(outcome: &Outcome) -> String {
    assert_eq!((outcome.exit_code, outcome.stderr.as_str()), (1, ""));
    let text = String::from_utf8(outcome.stdout.clone()).unwrap();
    text.lines().skip(2).map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn json(outcome: &Outcome) -> serde_json::Value {
    assert_eq!(outcome.stderr, "");
    serde_json::from_slice(&outcome.stdout).unwrap()
}

#[test]
fn builds_at_different_times() {
    let scratch = Scratch::new();
    scratch.configure_builds();
    scratch.write("kiln.toml", RECIPE);
    let paths = scratch.kiln("build :first :second").success();
    let paths: Vec<&str> = paths.lines().collect();
    let expected = "\
contents      info: 30 bytes in both; first difference at 12 (0xc); 2 bytes differ
                line 1 in A: Built on 2024-01-01T00:00:00Z
                line 1 in B: Built on 2025-01-02T00:00:00Z
                time '2024-01-01T00:00:00Z' in A, '2025-01-02T00:00:00Z' in B
1 difference: 1 of contents
";
    for line in [
        format!("store diff {} {}", paths[0], paths[1]),
        "store diff result ./result-1".to_owned(),
        "store diff result/ result-1/.".to_owned(),
    ] {
        let outcome = scratch.kiln(&line);
        assert_eq!(differences(&outcome), expected, "{line}");
        let named = format!("A is {}\nB is {}\n", paths[0], paths[1]);
        assert!(String::from_utf8_lossy(&outcome.stdout).starts_with(&named), "{line}");
    }
    let report = json(&scratch.kiln("store diff result result-1 --json"));
    assert_eq!(report["roots"]["a"], paths[0]);
    assert_eq!(report["differences"][0]["path"], "info");
    assert_eq!(report["totals"]["differences"], 1);
    let below = scratch.kiln("store diff result/info result-1/info");
    assert!(differences(&below).starts_with("contents      .: 30 bytes in both"));
}

#[test]
fn what_is_the_same_does_not_differ() {
    let scratch = Scratch::new();
    for tree in ["a", "b"] {
        scratch.write(&format!("{tree}/sub/file"), "contents");
        symlink("sub", scratch.path(tree).join("link")).unwrap();
    }
    let text = scratch.kiln("store diff a b").quiet_success();
    assert!(text.ends_with("\nno differences (4 entries compared)\n"), "{text}");
    let outcome = scratch.kiln("store diff a b --json");
    assert_eq!(outcome.exit_code, 0);
    assert_eq!(json(&outcome)["differences"], serde_json::json!([]));
    scratch.kiln("store diff a a").quiet_success();
    scratch.kiln("store diff a/sub b/sub").quiet_success();
    assert!(!scratch.state().exists() && !scratch.store().exists(), "files need no store");
}

#[test]
fn links_are_compared_as_links() {
    let scratch = Scratch::new();
    scratch.write("a/file", "a");
    scratch.write("b/file", "b");
    for tree in ["a", "b"] {
        symlink("file", scratch.path(tree).join("link")).unwrap();
        symlink(tree, scratch.path(&format!("to-{tree}"))).unwrap();
    }
    scratch.kiln("store diff a/link b/link").quiet_success();
    assert_eq!(
        differences(&scratch.kiln("store diff to-a to-b")),
        "target        .: 'a' in A, 'b' in B\n1 difference: 1 of target\n"
    );
    assert!(differences(&scratch.kiln("store diff to-a/ to-b/")).starts_with("contents      file: "));
}

#[test]
fn the_most_differences_listed_can_be_chosen() {
    let scratch = Scratch::new();
    for name in ["one", "two", "three"] {
        scratch.write(&format!("a/{name}"), name);
        scratch.write(&format!("b/{name}"), name.to_uppercase());
    }
    let text = differences(&scratch.kiln("store diff a b --most 1"));
    assert!(text.starts_with("contents      one: ") && !text.contains("two"), "{text}");
    assert!(text.ends_with("2 more differences not shown\n3 differences: 3 of contents\n"), "{text}");
    let report = json(&scratch.kiln("store diff a b --json --most 0"));
    assert_eq!(report["totals"]["differences"], 3);
    assert_eq!(report["totals"]["listed"], 0);
    assert_eq!(differences(&scratch.kiln("store diff a b")).matches("\ncontents ").count(), 2);
    assert!(scratch.kiln("store diff a b --most few").failure(1).contains("invalid value 'few'"));
}

#[test]
fn what_is_not_there_cannot_be_compared() {
    let scratch = Scratch::new();
    scratch.write("file", "");
    let missing = scratch.store().join("00000000000000000000000000000000-missing");
    for (line, named) in [
        ("store diff file nowhere".to_owned(), "'nowhere' does not exist".to_owned()),
        ("store diff nowhere/file file --json".to_owned(), "'nowhere/file'".to_owned()),
        ("store diff file/below file".to_owned(), "'file/below'".to_owned()),
        (format!("store diff {} file", missing.display()), format!("'{}'", missing.display())),
    ] {
        let outcome = scratch.kiln(&line);
        assert!(outcome.failure(2).contains(&named), "{line}: {}", outcome.stderr);
    }
    assert!(scratch.kiln("store diff file").failure(1).contains("Try 'kiln store diff --help'"));
    let other = scratch.kiln("store diff file nowhere --store https://cache.example.org");
    assert!(other.failure(2).contains("local stores"), "{}", other.stderr);
    scratch.kiln("store diff file file --store https://cache.example.org").quiet_success();
}

#[test]
fn names_and_links_may_be_any_bytes() {
    let scratch = Scratch::new();
    let name = OsStr::from_bytes(b"na\xffme\n");
    for (tree, target) in [("a", b"to\xfe".as_slice()), ("b", b"to\xfd")] {
        let root = scratch.path("").join(OsStr::from_bytes(&[tree.as_bytes(), b"\xff"].concat()));
        fs::create_dir_all(root.join(name)).unwrap();
        symlink(OsStr::from_bytes(target), root.join(name).join("link")).unwrap();
    }
    let run = |options: &str| {
        let mut command = scratch.command(&format!("store diff {options}"));
        Outcome::of(command.args([b"a\xff", b"b\xff"].map(|name| OsStr::from_bytes(name))).output().unwrap())
    };
    assert_eq!(
        differences(&run("")),
        "target        na\\xffme\\n/link: 'to\\xfe' in A, 'to\\xfd' in B\n1 difference: 1 of target\n"
    );
    let report = json(&run("--json"));
    assert_eq!(report["differences"][0]["path"]["base64"], "bmH/bWUKL2xpbms=");
    assert_eq!(report["differences"][0]["targets"]["a"]["base64"], "dG/+");
    assert!(report["roots"]["a"]["base64"].is_string());
}

#[test]
fn what_may_not_be_read_may_differ() {
    let scratch = Scratch::new();
    for tree in ["a", "b"] {
        let file = scratch.write(&format!("{tree}/secret"), "same");
        fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let outcome = scratch.kiln("store diff a b");
    if rustix::process::geteuid().is_root() {
        outcome.quiet_success();
    } else {
        let text = differences(&outcome);
        assert!(text.starts_with("not compared  secret: ") && text.contains("ermission denied"), "{text}");
    }
}

#[test]
fn paths_of_a_store_elsewhere_are_found_there() {
    let scratch = Scratch::new();
    scratch.write("tree/lib/file", "contents");
    scratch.write("other", "Contents");
    let run = |line: &str| {
        let mut command = scratch.command(&format!("{line} --store ./own"));
        Outcome::of(command.env_remove("NIX_STORE_DIR").output().unwrap())
    };
    let path = run("store add tree").quiet_success();
    let path = path.trim_end();
    assert!(path.starts_with("/nix/store/"), "{path}");
    symlink(path, scratch.path("result")).unwrap();
    symlink(Path::new(path).join("lib"), scratch.path("lib")).unwrap();
    for (a, b) in [(path, "tree"), ("result", "tree"), ("lib/file", "tree/lib/file"), ("lib", "tree/lib")] {
        run(&format!("store diff {a} {b}")).quiet_success();
    }
    let outcome = run("store diff result/lib/file other");
    assert!(differences(&outcome).starts_with("contents      .: 8 bytes in both"), "{path}");
    let real = scratch.path("own").join(&path[1..]).join("lib/file");
    assert!(String::from_utf8_lossy(&outcome.stdout).starts_with(&format!("A is {}\n", real.display())));
}
