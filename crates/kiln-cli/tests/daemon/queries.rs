//! Questions about the store.

use std::collections::BTreeSet;

use super::daemon;

fn set(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// The same questions to the daemon and to real Nix on the same store.
#[test]
fn answers_are_those_of_nix() {
    let Some(daemon) = daemon() else { return };
    let derivation = daemon.instantiate("b");
    let out = daemon.build(&["b"]).remove(0);
    let questions: &[&[&str]] = &[
        &["-q", "--references", &out],
        &["-q", "--requisites", &out],
        &["-q", "--requisites", "--include-outputs", &derivation],
        &["-q", "--referrers", &out],
        &["-q", "--referrers-closure", &derivation],
        &["-q", "--deriver", &out],
        &["-q", "--hash", &out],
        &["-q", "--size", &out],
        &["-q", "--outputs", &derivation],
        &["-q", "--binding", "builder", &derivation],
        &["-q", "--tree", &derivation],
        &["-q", "--graph", &out],
        &["--check-validity", &out],
        &["--verify-path", &out],
        &["--dump-db"],
        &["--print-env", &derivation],
    ];
    for question in questions {
        let ours = daemon.run("nix-store", *question);
        let theirs = daemon.nix().run("nix-store", *question);
        assert_eq!(ours.code, Some(0), "{question:?}: {}", ours.stderr);
        assert_eq!(set(&ours.stdout), set(&theirs), "{question:?}");
    }
    for question in [
        &["path-info", "--all", "--json"][..],
        &["path-info", "-rsSh", &out],
        &["show-derivation", &derivation],
    ] {
        let ours = daemon.run("nix", question);
        let theirs = daemon.nix().run("nix", question);
        assert_eq!(ours.code, Some(0), "{question:?}: {}", ours.stderr);
        assert_eq!(set(&ours.stdout), set(&theirs), "{question:?}");
    }
}

#[test]
fn what_is_not_valid_is_said_to_be_so() {
    let Some(daemon) = daemon() else { return };
    let path = daemon.nix().store_dir().join("00000000000000000000000000000000-nothing");
    let path = path.to_str().unwrap();
    for question in [["-q", "--references"], ["-q", "--deriver"], ["--check-validity", "--check-validity"]] {
        let ran = daemon.run("nix-store", question.iter().chain([&path]));
        assert!(ran.failed(1).contains("is not valid"), "{question:?}: {}", ran.stderr);
    }
}

#[test]
fn the_daemon_tells_its_version() {
    let Some(daemon) = daemon() else { return };
    let ran = daemon.run("nix", ["store", "ping"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("Version: 2."), "{}", ran.stderr);
}
