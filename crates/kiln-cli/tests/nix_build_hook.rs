//! The build hook of real Nix, which builds in a second store of this machine and, over ssh on loopback, in another one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kiln_testing::{Kiln, Ran, Recipe, ScratchDirectory, SharedStore, SshServer, missing, remote_program};

/// Where its default `build-hook` is that of real Nix, and nothing can be built here; `None`, loudly, where Nix is not
/// installed.
fn with_nix() -> Option<Kiln> {
    let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln")).option("max-jobs", "0").option("substitute", "false");
    let hook = kiln.run(["config", "show", "build-hook"]);
    if hook.line().is_empty() {
        missing("real Nix (Debian's nix-bin)");
        return None;
    }
    Some(kiln.option("substituters", ""))
}

fn recipe() -> Recipe {
    Recipe::default()
        .derivation("dep", "echo making dep; echo dep > $out")
        .derivation(
            "it",
            "echo a line; echo another >&2; mkdir -p $out/bin; echo $$dev ${dep} > $out/refers; printf '#!/bin/sh' > $out/bin/x; \
             chmod +x $out/bin/x; ln -s x $out/bin/y; echo > $dev; printf unended",
        )
        .with("outputs = [\"out\", \"dev\"]")
}

fn failing() -> Recipe {
    Recipe::script("echo going wrong; mkdir $out; exit 3")
}

/// Asserts that a run has left what a build of the same recipe on this machine leaves; the paths of the outputs.
fn assert_as_built_here(kiln: &Kiln, ran: &Ran) {
    let here = Kiln::new(env!("CARGO_BIN_EXE_kiln"));
    let built = here.build(&recipe(), &[]);
    let mut paths = [ran.lines(), built.lines()];
    paths.iter_mut().for_each(|paths| paths.sort_unstable());
    assert_eq!(paths[0], paths[1]);
    assert_eq!(paths[0].len(), 3);
    for path in &paths[0] {
        let (there, here) = (kiln.info(path).unwrap(), here.info(path).unwrap());
        for field in ["narHash", "narSize", "references", "deriver", "ca"] {
            assert_eq!(there[field], here[field], "{path}: {field}");
        }
        let status = |kiln: &Kiln| {
            let status = fs::symlink_metadata(kiln.real(path)).unwrap();
            (status.permissions().mode(), std::os::unix::fs::MetadataExt::mtime(&status))
        };
        assert_eq!(status(kiln).1, 1, "{path}");
        assert_eq!(there["ultimate"], false, "{path}");
    }
    let verified = kiln.run(["store", "verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert_eq!(kiln.remains(), [""; 0]);
}

/// The log of the only derivation of a recipe, or of another one.
fn log(kiln: &Kiln, derivation: &str) -> String {
    let ran = kiln.run(["log", derivation]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

/// The derivation that made a path.
fn deriver(kiln: &Kiln, path: &str) -> String {
    kiln.info(path).unwrap()["deriver"].as_str().unwrap().to_owned()
}

#[test]
fn h5_the_hook_of_nix_builds_in_another_store() {
    let Some(kiln) = with_nix() else { return };
    let remote = kiln.directory().join("remote");
    let kiln = kiln.option("builders", &format!("{} - - 1 1", remote.display()));
    let ran = kiln.build(&recipe(), &["--print-build-logs"]);
    assert_as_built_here(&kiln, &ran);
    let derivation = deriver(&kiln, ran.lines().iter().find(|path| path.ends_with("-it")).unwrap());
    let building = format!("building '{derivation}' on '{}'...", remote.display());
    for line in [&*building, "it> a line", "it> another", "it> unended", "dep> making dep"] {
        assert_eq!(ran.stderr.lines().filter(|shown| *shown == line).count(), 1, "{line}: {}", ran.stderr);
    }
    assert_eq!(log(&kiln, &derivation), "a line\nanother\nunended\n");
    // What is valid is not built again.
    kiln.build(&recipe(), &[]).lines();
    assert!(remote.join("nix/store").is_dir());

    let ran = kiln.build(&failing(), &[]);
    let stderr = ran.failed(1);
    let derivation = kiln.instantiate(&failing());
    for message in [
        format!("build of '{derivation}' on '{}' failed: ", remote.display()),
        format!("builder for '{derivation}' failed with exit code 3"),
        format!("builder for '{derivation}' failed with exit code 1"),
    ] {
        assert!(stderr.contains(&message), "{message}: {stderr}");
    }
    assert_eq!(log(&kiln, &derivation), "going wrong\n");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn h5_the_hook_of_nix_declines_and_postpones() {
    let Some(kiln) = with_nix() else { return };
    // Two builds, one place.
    let remote = kiln.directory().join("remote");
    let builders = format!("{0} - - 1 1 - special ; {0} riscv64-linux ; {0} - - 1 1", remote.display());
    let kiln = kiln.option("builders", &builders).option("build-poll-interval", "1000");
    let recipe =
        Recipe::default().derivation("a", "sleep 1; echo > $out").derivation("b", "sleep 1; echo a > $out");
    let ran = kiln.build(&recipe, &["--log-format", "internal-json"]);
    assert_eq!(ran.lines().len(), 2);
    assert!(ran.stderr.contains("waiting for a machine to build '"), "{}", ran.stderr);
    // A feature that none has.
    let nowhere = Recipe::script("echo > $out").with("env.requiredSystemFeatures = \"warp\"");
    let stderr = kiln.build(&nowhere, &[]).failed(100).to_owned();
    assert!(stderr.contains("Failed to find a machine for remote build!"), "{stderr}");
    assert!(stderr.contains("with features {warp} is required to build '"), "{stderr}");
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Paths that follow from content are known when the hook has brought the outputs back.
#[test]
fn h4_h5_the_hook_of_nix_brings_back_what_is_content_addressed() {
    let Some(store) = SharedStore::find(env!("CARGO_BIN_EXE_kiln")) else { return };
    let store =
        store.option("experimental-features", "ca-derivations nix-command").option("substituters", "");
    let derivation = |name: &str, script: &str| {
        format!(
            "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"{script}\" ]; \
             __contentAddressed = true; outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; }}"
        )
    };
    let expression =
        format!("let a = {}; in {}", derivation("a", "echo a > $out"), derivation("b", "echo ${a} > $out"));
    let derivations = store.instantiate(&expression);
    let remote = store.directory().join("remote");
    let builders = format!("{} - - 1 1 ca-derivations", remote.display());
    let build = |more: &[&str]| {
        let arguments = ["build", "--no-link", &derivations[0]];
        let ran = store.kiln(arguments.iter().chain(more));
        (ran.line().to_owned(), ran.stderr.matches("\nbuilding '").count())
    };
    store.save();
    let elsewhere = ["--max-jobs", "0", "--builders", &*builders];
    let (there, count) = build(&elsewhere);
    assert_eq!((count, remote.exists()), (2, true));
    assert_eq!(build(&elsewhere), (there.clone(), 0), "it is known");
    store.verify();
    store.go_back();
    assert_eq!(build(&[]).0, there);
}

#[test]
fn h1_without_machines_no_hook_is_started() {
    let Some(kiln) = with_nix() else { return };
    // It would leave a directory of its locks.
    let kiln = kiln.option("max-jobs", "1");
    kiln.build(&recipe(), &[]).lines();
    assert!(!kiln.root().join("nix/var/nix/current-load").exists());
    let kiln = kiln.option("builders", "ssh://nowhere riscv64-linux");
    kiln.build(&failing(), &[]).failed(100);
    assert!(kiln.root().join("nix/var/nix/current-load").exists(), "with one it is asked");
}

/// On machines with real Nix, and on those with Kiln.
#[test]
fn h5_the_hook_of_nix_builds_over_ssh() {
    let kilns = ScratchDirectory::new();
    let of_kiln = |name: &str| {
        let link = kilns.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kiln"), &link).unwrap();
        link.display().to_string()
    };
    for (scheme, program) in [
        ("ssh", "nix-store".to_owned()),
        ("ssh-ng", "nix-daemon".to_owned()),
        ("ssh", of_kiln("nix-store")),
        ("ssh-ng", of_kiln("nix-daemon")),
    ] {
        let Some(kiln) = with_nix() else { return };
        let Some(server) = SshServer::start() else { return };
        let remote = kiln.directory().join("remote");
        let machine = format!(
            "{scheme}://127.0.0.1?remote-program={}&remote-store={}",
            remote_program(&kiln, &program).display(),
            remote.display()
        );
        let kiln = kiln.option("builders", &format!("{machine} - - 1 1"));
        let options = server.options();
        let build = |kiln: &Kiln, recipe: &Recipe, arguments: &[&str]| {
            kiln.write("kiln.toml", recipe.text());
            let arguments = ["build", "--no-link"].iter().chain(arguments);
            Ran::from(kiln.command(arguments).env("NIX_SSHOPTS", &options).output().unwrap())
        };
        let ran = build(&kiln, &recipe(), &["--print-build-logs"]);
        assert_as_built_here(&kiln, &ran);
        let derivation = deriver(&kiln, ran.lines().iter().find(|path| path.ends_with("-it")).unwrap());
        for line in [
            &*format!("building '{derivation}' on '{machine}'..."),
            "it> a line",
            "it> another",
            "it> unended",
        ] {
            assert_eq!(
                ran.stderr.lines().filter(|shown| *shown == line).count(),
                1,
                "{line}: {}",
                ran.stderr
            );
        }
        assert_eq!(log(&kiln, &derivation), "a line\nanother\nunended\n", "{scheme}: it comes by lines");

        let ran = build(&kiln, &failing(), &[]);
        let derivation = kiln.instantiate(&failing());
        assert!(
            ran.failed(1).contains(&format!("build of '{derivation}' on '{machine}' failed: ")),
            "{}",
            ran.stderr
        );
        assert_eq!(log(&kiln, &derivation), "going wrong\n", "{scheme}");
        drop(server);
        // A machine that can't be reached is passed over.
        let kiln = kiln.option("max-jobs", "1");
        let ran = build(&kiln, &Recipe::script("echo > $out"), &[]);
        ran.line();
        assert!(ran.stderr.contains("cannot build on '"), "{}", ran.stderr);
        assert_eq!(kiln.remains(), [""; 0]);
    }
}
