//! Environments.

use crate::bench::{Bench, expected};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// An environment that is to be made of packages below its directory.
fn environment(packages: &[(&str, &[&str])], derivations: &str) -> Bench {
    let bench = Bench::new("buildenv").with("manifest", "/the/manifest");
    for (package, entries) in packages {
        let package = bench.path().join(package);
        fs::create_dir(&package).unwrap();
        for entry in *entries {
            match entry.split_once(" -> ") {
                Some((link, target)) => symlink(target, in_package(&package, link)).unwrap(),
                None if entry.ends_with('/') => fs::create_dir_all(package.join(entry)).unwrap(),
                None => fs::write(in_package(&package, entry), "").unwrap(),
            }
        }
    }
    let derivations = derivations.replace('/', &format!("{}/", bench.path().display()));
    bench.with("derivations", &derivations)
}

fn in_package(package: &std::path::Path, entry: &str) -> PathBuf {
    let path = package.join(entry);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// The tree, with the directory of the packages left out of the targets of links.
fn made(bench: &Bench) -> std::collections::BTreeMap<String, String> {
    let prefix = format!("{}/", bench.path().display());
    bench.tree().into_iter().map(|(path, what)| (path, what.replace(&prefix, ""))).collect()
}

#[track_caller]
fn check(bench: &Bench, entries: &[(&str, &str)]) {
    bench.succeed();
    let entries = [entries, &[("manifest.nix", "-> /the/manifest")]].concat();
    assert_eq!(made(bench), expected(&entries));
}

#[test]
fn b11_directories_are_merged_as_far_as_they_must() {
    let bench = environment(
        &[("a", &["bin/a", "share/a/x", "lib/one"]), ("b", &["bin/b", "share/b/y"])],
        "true 5 1 /a true 5 1 /b",
    );
    check(
        &bench,
        &[
            ("bin", "directory"),
            ("bin/a", "-> a/bin/a"),
            ("bin/b", "-> b/bin/b"),
            ("lib", "-> a/lib"),
            ("share", "directory"),
            ("share/a", "-> a/share/a"),
            ("share/b", "-> b/share/b"),
        ],
    );
}

#[test]
fn b11_links_to_directories_are_merged_too() {
    let packages: &[(&str, &[&str])] =
        &[("a", &["bin/a", "sbin -> bin"]), ("b", &["sbin/b"]), ("c", &["sbin/c"])];
    let bench = environment(packages, "true 5 1 /a true 5 1 /b true 5 1 /c");
    check(
        &bench,
        &[
            ("bin", "-> a/bin"),
            ("sbin", "directory"),
            ("sbin/a", "-> a/bin/a"),
            ("sbin/b", "-> b/sbin/b"),
            ("sbin/c", "-> c/sbin/c"),
        ],
    );
}

#[test]
fn b11_the_lower_priority_wins() {
    let packages: &[(&str, &[&str])] = &[("a", &["bin/x", "d/f/deep"]), ("b", &["bin/x", "d/f/deep"])];
    for (derivations, winner) in [
        ("true 5 1 /a true 6 1 /b", "a"),
        ("true 6 1 /a true 5 1 /b", "b"),
        ("true 0 1 /a true -1 1 /b", "b"),
    ] {
        let bench = environment(packages, derivations);
        let (x, deep) = (format!("-> {winner}/bin/x"), format!("-> {winner}/d/f/deep"));
        let entries = [
            ("bin", "directory"),
            ("bin/x", &x),
            ("d", "directory"),
            ("d/f", "directory"),
            ("d/f/deep", &deep),
        ];
        check(&bench, &entries);
    }
}

#[test]
fn b11_the_same_priority_is_a_conflict() {
    let bench = environment(&[("a", &["bin/x"]), ("b", &["bin/x"])], "true 5 1 /b true 5 1 /a");
    let directory = bench.path().display().to_string();
    assert_eq!(
        bench.fail(),
        format!(
            "packages '{directory}/b/bin/x' and '{directory}/a/bin/x' have the same priority 5; use 'nix-env --set-flag \
             priority NUMBER INSTALLED_PKGNAME' to change the priority of one of the conflicting packages (0 being \
             the highest priority)"
        )
    );
    assert!(!bench.out().exists());
}

#[test]
fn b11_files_and_directories_of_one_name_are_a_conflict() {
    let packages: &[(&str, &[&str])] = &[("a", &["x/y"]), ("b", &["x"]), ("c", &["x/z"])];
    let bench = environment(packages, "true 5 1 /b true 6 1 /a");
    let directory = bench.path().display().to_string();
    assert_eq!(
        bench.fail(),
        format!("collision between '{directory}/a/x' and non-directory '{directory}/b/x'")
    );
    let bench = environment(packages, "true 5 2 /a /c true 6 1 /b");
    let directory = bench.path().display().to_string();
    assert_eq!(
        bench.fail(),
        format!("collision between non-directory '{directory}/b/x' and directory '{directory}/out/x'")
    );
}

#[test]
fn b11_some_files_are_left_out() {
    let skipped = [
        "propagated-build-inputs",
        "nix-support/x",
        "lib/perllocal.pod",
        "info/dir",
        "log/x",
        "manifest.nix",
        "manifest.json",
        ".hidden",
        "lib/keep",
        "lib/dir",
    ];
    let bench = environment(&[("a", &skipped), ("b", &["lib/log", "lib/b", "info/b"])], "true 5 2 /a /b");
    check(
        &bench,
        &[
            ("info", "directory"),
            ("info/b", "-> b/info/b"),
            ("lib", "directory"),
            ("lib/b", "-> b/lib/b"),
            ("lib/dir", "-> a/lib/dir"),
            ("lib/keep", "-> a/lib/keep"),
        ],
    );
}

#[test]
fn b11_what_is_no_package_is_left_out_with_a_warning() {
    let bench = environment(&[("a", &["dangling -> nowhere", "x"])], "true 5 2 /a /file");
    fs::write(bench.path().join("file"), "").unwrap();
    let directory = bench.path().display().to_string();
    let log = bench.succeed();
    assert_eq!(
        log,
        format!(
            "warning: skipping dangling symlink '{directory}/out/dangling'\n\
             warning: not including '{directory}/file' in the user environment because it's not a directory\n"
        )
    );
    assert_eq!(made(&bench), expected(&[("manifest.nix", "-> /the/manifest"), ("x", "-> a/x")]));
    assert!(environment(&[], "true 5 1 /absent").fail().starts_with("cannot open directory '"));
}

#[test]
fn b11_inactive_packages_are_left_out() {
    let bench = environment(&[("a", &["a"]), ("b", &["b"])], "false 5 1 /a active 5 1 /b");
    check(&bench, &[("b", "-> b/b")]);
    check(&environment(&[], ""), &[]);
    let twice = environment(&[("a", &["a"])], "true 5 1 /a true 5 1 /a");
    check(&twice, &[("a", "-> a/a")]);
}

#[test]
fn b11_packages_bring_others_along() {
    let bench = environment(
        &[("a", &["x"]), ("b", &["x", "y"]), ("c", &["y", "z"]), ("d", &["z"])],
        "true 2000 1 /a",
    );
    let propagate = |package: &str, others: &[&str]| {
        let support = bench.path().join(package).join("nix-support");
        fs::create_dir_all(&support).unwrap();
        let others: Vec<_> =
            others.iter().map(|other| bench.path().join(other).display().to_string()).collect();
        fs::write(support.join("propagated-user-env-packages"), format!(" {}\n", others.join(" \n")))
            .unwrap();
    };
    propagate("a", &["c", "b"]);
    propagate("b", &["d", "a"]);
    propagate("d", &["b"]);
    // In Nix too it is the number alone that counts: 2000 is behind the first of them.
    check(&bench, &[("x", "-> b/x"), ("y", "-> b/y"), ("z", "-> c/z")]);
}

#[test]
fn b11_attributes_that_are_missing() {
    for missing in ["derivations", "manifest", "out"] {
        let error = environment(&[], "").without(missing).fail();
        assert_eq!(error, format!("attribute '{missing}' missing"));
    }
}
