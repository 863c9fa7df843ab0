//! Command lines that change the store: each run by both on copies of the same store, which must be the same afterwards.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::both::{Both, Whose};

fn files(both: &Both) -> PathBuf {
    let directory = both.work().join("d");
    fs::create_dir_all(directory.join("empty")).unwrap();
    fs::write(directory.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(directory.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.join("caf\u{e9}"), vec![0xff; 70_000]).unwrap();
    symlink("program", directory.join("link")).unwrap();
    symlink("d", both.work().join("to-d")).unwrap();
    directory
}

#[test]
fn adding() {
    let Some(both) = Both::empty() else { return };
    files(&both);
    fs::write(both.work().join("bad*name"), "").unwrap();
    fs::write(both.work().join("file"), vec![b'x'; 200_000]).unwrap();
    for line in [
        "--add d d/program d/link to-d/ d/ ./d/empty/",
        "--add-fixed sha256 file",
        "--add-fixed sha1 file file",
        "--add-fixed --recursive sha512 d",
        "--add-fixed --recursive sha256 d/link d",
    ] {
        both.same_change(line, b"");
    }
    // After these, Nix leaves files without an owner.
    for line in
        ["-A d/program nowhere", "--add-fixed md5 file d", "--add-fixed sha256 d/link", "--add file bad*name"]
    {
        assert_eq!(both.same(line).code, Some(1));
    }
    // Nix 2.8 keeps a permission that the path says nothing of.
    assert_eq!(
        both.kiln("--add-fixed sha256 d/program"),
        both.run(Whose::Nix, "--add-fixed sha256 d/program").stdout
    );
    both.store.verify();
}

#[test]
fn deleting() {
    let Some(both) = Both::built() else { return };
    both.run(Whose::Nix, "-r $self --add-root root");
    for line in [
        "--delete $output",
        "--delete $bin $output",
        "--delete $output $bin $top",
        "--delete $self",
        "--delete --ignore-liveness $self",
        "--delete root",
        "--delete $multi",
        "--delete",
    ] {
        both.same_change(line, b"");
        both.store.go_back();
    }
    // Real Nix deletes what comes before the path that is alive; and counts what is not there.
    let before = both.kiln("--dump-db");
    let outcome = both.run(Whose::Kiln, "--delete $output $lowest");
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), "0 store paths deleted, 0.00 MiB freed\n"));
    assert_eq!(both.kiln("--dump-db"), before);
    assert_eq!(both.kiln("--delete $none"), "0 store paths deleted, 0.00 MiB freed\n");
}

#[test]
fn collecting() {
    let Some(both) = Both::built() else { return };
    fs::write(both.work().join("big"), vec![7; 3 << 20]).unwrap();
    both.run(Whose::Nix, "--add big");
    both.run(Whose::Nix, "-r $self --add-root root");
    // What processes that were killed have left, and what was put there by hand.
    let store = both.store.nix().store_dir();
    fs::write(store.join("00000000000000000000000000000000-x.lock"), "").unwrap();
    both.same("--gc --print-dead");
    both.same("--gc --print-live");
    // Real Nix deletes this even when it is only asked what is dead.
    fs::create_dir(store.join("junk")).unwrap();
    fs::write(store.join("junk/file"), "junk").unwrap();
    assert!(both.kiln("--gc --print-dead").contains("/junk\n"));
    let freed = both.same_change("--gc", b"").stdout;
    assert!(freed.ends_with(" freed\n") && freed.contains("3.0"), "{freed}");
    assert_eq!(both.same_change("--gc", b"").stdout, "0 store paths deleted, 0.00 MiB freed\n");
    both.same_change("--gc --option keep-derivations false", b"");
    fs::remove_file(both.work().join("root")).unwrap();
    both.same_change("--gc --quiet", b"");
    assert_eq!(both.kiln("--dump-db"), "");
}

#[test]
fn collecting_no_more_than_asked_for() {
    let Some(both) = Both::empty() else { return };
    for number in 0..4 {
        fs::write(both.work().join(format!("big{number}")), vec![number; 1 << 20]).unwrap();
    }
    both.run(Whose::Nix, "--add big0 big1 big2 big3");
    // In which order is the program's own affair.
    both.store.save();
    for whose in [Whose::Nix, Whose::Kiln] {
        let outcome = both.run(whose, "--gc --max-freed 1500K");
        assert_eq!(
            outcome.stdout, "2 store paths deleted, 2.00 MiB freed\n",
            "{whose:?}: {}",
            outcome.stderr
        );
        both.store.go_back();
    }
}

#[test]
fn repairing_and_verifying() {
    let Some(both) = Both::built() else { return };
    let lowest = PathBuf::from(both.named("lowest"));
    let damage = || {
        fs::set_permissions(&lowest, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&lowest, "y\n").unwrap();
        fs::set_permissions(&lowest, fs::Permissions::from_mode(0o444)).unwrap();
    };
    both.same_change("--verify-path $lowest", b"");
    damage();
    both.same_wholly("--verify-path $lowest $self");
    both.same_wholly("--verify");
    both.same_wholly("--verify --check-contents");
    both.run(Whose::Kiln, "--repair-path $lowest");
    assert_eq!(both.same("--verify --check-contents").code, Some(0));
    damage();
    both.same_change("--repair-path $lowest", b"");
    damage();
    both.same_change("--verify --check-contents --repair", b"");
    damage();
    both.same_change("-r $lower --repair", b"");
    fs::remove_file(both.named("output")).unwrap();
    // Nothing refers to it: it is forgotten.
    both.same_change("--verify", b"");
    fs::remove_file(both.named("self")).unwrap();
    both.same_change("--verify", b"");
}

/// The derivation of such a path never succeeds, and makes it good all the same.
#[test]
fn repairing_what_a_hash_mismatch_has_left() {
    let Some(mut both) = Both::built() else { return };
    let derivations = fs::read_dir(both.store.nix().store_dir()).unwrap().map(|entry| entry.unwrap().path());
    let is_wrong = |path: &PathBuf| path.to_str().unwrap().ends_with("-wrong-hash.drv");
    let wrong = derivations.into_iter().find(is_wrong).unwrap();
    both.name("wrong", wrong.to_str().unwrap());
    let kept = || {
        let entries = fs::read_dir(both.store.nix().store_dir()).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.to_str().unwrap().ends_with("-wrong-hash")).unwrap()
    };
    assert_eq!(both.run(Whose::Nix, "-r $wrong").code, Some(102));
    let kept = kept();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&kept, "damaged\n").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o444)).unwrap();
    let outcome = both.same_change("--verify --check-contents --repair", b"");
    assert_eq!((outcome.code, fs::read_to_string(&kept).unwrap().as_str()), (Some(0), "x\n"), "{outcome:?}");
    both.store.verify();
}

#[test]
fn sharing_equal_files() {
    let Some(both) = Both::empty() else { return };
    let directory = files(&both);
    fs::copy(directory.join("caf\u{e9}"), directory.join("again")).unwrap();
    both.run(Whose::Nix, "--add d d/program");
    both.store.save();
    let mut told = Vec::new();
    for whose in [Whose::Nix, Whose::Kiln] {
        let outcome = both.run(whose, "--optimise");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""));
        told.push(outcome.stderr);
        assert_eq!(both.run(whose, "--optimize").stderr, "0.00 MiB freed by hard-linking 0 files\n");
        both.store.go_back();
    }
    assert_eq!(told[0], told[1]);
}

#[test]
fn keys() {
    let Some(both) = Both::empty() else { return };
    let mode = |name: &str| fs::metadata(both.work().join(name)).unwrap().permissions().mode() & 0o777;
    let read = |name: &str| fs::read_to_string(both.work().join(name)).unwrap();
    for whose in [Whose::Nix, Whose::Kiln] {
        let outcome = both.run(whose, "--generate-binary-cache-key cache-1 secret public");
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert_eq!((mode("secret"), mode("public")), (0o600, 0o644));
        assert_eq!((read("secret").len(), read("public").len()), (8 + 88, 8 + 44));
        fs::remove_file(both.work().join("public")).unwrap();
        fs::remove_file(both.work().join("secret")).unwrap();
    }
    // Real Nix signs with the key, and believes the signature.
    both.kiln("--generate-binary-cache-key cache-1 secret public");
    fs::write(both.work().join("file"), "signed").unwrap();
    let path = both.kiln("--add file").trim_end().to_owned();
    let secret = both.work().join("secret").display().to_string();
    both.store.nix().run("nix", ["store", "sign", "--key-file", &secret, &path]);
    let info = both.store.nix().run("nix", ["path-info", "--sigs", &path]);
    assert!(info.contains("cache-1:"), "{info}");
    let public = read("public");
    both.store
        .nix()
        .run("nix", ["store", "verify", "--sigs-needed", "1", "--trusted-public-keys", &public, &path]);
}
