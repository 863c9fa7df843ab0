//! Kiln's own build hook and that of real Nix, which build in a second store of this machine and, over ssh on loopback, in
//! another one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kiln_testing::{
    Kiln, Ran, Recipe, SANDBOX_PATHS, ScratchDirectory, SharedStore, SshServer, build_hook_of_nix, missing,
    remote_program, sandbox_paths_of_nix,
};

/// Whose hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Own,
    Nix,
}

const HOOKS: [Hook; 2] = [Hook::Own, Hook::Nix];

/// The setting `build-hook` that means a hook; `None`, loudly, where Nix is wanted and not installed.
fn setting(hook: Hook) -> Option<Vec<(&'static str, String)>> {
    match hook {
        Hook::Own => Some(Vec::new()),
        Hook::Nix => {
            let found = build_hook_of_nix();
            if found.is_none() {
                missing("real Nix (Debian's nix-bin)");
            }
            found.map(|hook| vec![("build-hook", hook)])
        }
    }
}

/// Where nothing can be built but by a hook.
fn with(hook: Hook) -> Option<Kiln> {
    let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln")).option("max-jobs", "0").option("substitute", "false");
    let kiln = setting(hook)?.iter().fold(kiln, |kiln, (name, value)| kiln.option(name, value));
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

/// A store forgets what the content of its paths is.
fn forget_addresses(root: &Path) {
    let database = root.join("nix/var/nix/db/db.sqlite");
    let forgotten = Command::new("sqlite3").arg(&database).arg("UPDATE ValidPaths SET ca = NULL").status();
    assert!(forgotten.unwrap().success());
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
fn h5_hooks_build_in_another_store() {
    for hook in HOOKS {
        let Some(kiln) = with(hook) else { return };
        let remote = kiln.directory().join("remote");
        let kiln = kiln.option("builders", &format!("{} - - 1 1", remote.display()));
        let ran = kiln.build(&recipe(), &["--print-build-logs"]);
        assert_as_built_here(&kiln, &ran);
        let derivation = deriver(&kiln, ran.lines().iter().find(|path| path.ends_with("-it")).unwrap());
        let building = format!("building '{derivation}' on '{}'...", remote.display());
        for line in [&*building, "it> a line", "it> another", "it> unended", "dep> making dep"] {
            assert_eq!(
                ran.stderr.lines().filter(|shown| *shown == line).count(),
                1,
                "{line}: {}",
                ran.stderr
            );
        }
        assert_eq!(log(&kiln, &derivation), "a line\nanother\nunended\n");
        // What is valid is not built again.
        kiln.build(&recipe(), &[]).lines();
        assert!(remote.join("nix/store").is_dir());

        let ran = kiln.build(&failing(), &[]);
        let stderr = ran.failed(if hook == Hook::Own { 100 } else { 1 });
        let derivation = kiln.instantiate(&failing());
        for message in [
            format!("build of '{derivation}' on '{}' failed: ", remote.display()),
            format!("builder for '{derivation}' failed with exit code 3"),
            // Nix's hook tells no more than that it has failed.
            format!(
                "builder for '{derivation}' failed with exit code {}",
                if hook == Hook::Own { 100 } else { 1 }
            ),
        ] {
            assert!(stderr.contains(&message), "{message}: {stderr}");
        }
        assert_eq!(log(&kiln, &derivation), "going wrong\n");
        assert_eq!(kiln.remains(), [""; 0]);
    }
}

#[test]
fn h5_hooks_decline_and_postpone() {
    for hook in HOOKS {
        let Some(kiln) = with(hook) else { return };
        // Two builds, one place.
        let remote = kiln.directory().join("remote");
        let builders = format!("{0} - - 1 1 - special ; {0} riscv64-linux ; {0} - - 1 1", remote.display());
        let kiln = kiln.option("builders", &builders).option("build-poll-interval", "1000");
        let recipe = Recipe::default()
            .derivation("a", "sleep 1; echo > $out")
            .derivation("b", "sleep 1; echo a > $out");
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
}

/// Paths that follow from content are known when the hook has brought the outputs back.
#[test]
fn h4_h5_hooks_bring_back_what_is_content_addressed() {
    for hook in HOOKS {
        let Some(store) = SharedStore::find(env!("CARGO_BIN_EXE_kiln")) else { return };
        let Some(setting) = setting(hook) else { return };
        let store = setting.iter().fold(store, |store, (name, value)| store.option(name, value));
        let store =
            store.option("experimental-features", "ca-derivations nix-command").option("substituters", "");
        let derivation = |name: &str, script: &str| {
            format!(
                "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"{script}\" ]; \
             __contentAddressed = true; outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; }}"
            )
        };
        let expression = format!(
            "let a = {}; in {}",
            derivation("a", "echo a > $out"),
            derivation("b", "echo ${a} > $out")
        );
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
        if hook == Hook::Own {
            // A path that does not follow from its content could be anything.
            store.go_back();
            forget_addresses(&remote);
            let ran = store.kiln(["build", "--no-link", &derivations[0]].iter().chain(&elsewhere));
            assert!(ran.failed(1).contains("it says nothing about that"), "{}", ran.stderr);
        }
        store.go_back();
        assert_eq!(build(&[]).0, there);
    }
}

#[test]
fn h1_without_machines_no_hook_is_started() {
    let Some(kiln) = with(Hook::Own) else { return };
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
fn h5_hooks_build_over_ssh() {
    let kilns = ScratchDirectory::new();
    let of_kiln = |name: &str| {
        let link = kilns.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kiln"), &link).unwrap();
        link.display().to_string()
    };
    let machines = [
        ("ssh", "nix-store".to_owned()),
        ("ssh-ng", "nix-daemon".to_owned()),
        ("ssh", of_kiln("nix-store")),
        ("ssh-ng", of_kiln("nix-daemon")),
    ];
    for (hook, (scheme, program)) in
        HOOKS.into_iter().flat_map(|hook| machines.iter().map(move |machine| (hook, machine)))
    {
        let Some(kiln) = with(hook) else { return };
        let Some(server) = SshServer::start() else { return };
        let remote = kiln.directory().join("remote");
        let machine = format!(
            "{scheme}://127.0.0.1?remote-program={}&remote-store={}",
            remote_program(&kiln, program).display(),
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
            ran.failed(if hook == Hook::Own { 100 } else { 1 })
                .contains(&format!("build of '{derivation}' on '{machine}' failed: ")),
            "{}",
            ran.stderr
        );
        assert_eq!(log(&kiln, &derivation), "going wrong\n", "{scheme}");
        if (hook, *scheme) == (Hook::Own, "ssh") {
            // By this protocol, the machine is told what the engine's limits are.
            let slow = build(&kiln, &Recipe::script("sleep 1000"), &["--timeout", "1"]);
            assert!(slow.failed(101).contains("timed out"), "{}", slow.stderr);
        }
        drop(server);
        // A machine that can't be reached is passed over.
        let kiln = kiln.option("max-jobs", "1");
        let ran = build(&kiln, &Recipe::script("echo > $out"), &[]);
        ran.line();
        assert!(ran.stderr.contains("cannot build on '"), "{}", ran.stderr);
        assert_eq!(kiln.remains(), [""; 0]);
    }
}

/// Real Nix asks Kiln's hook as it asks its own.
#[test]
fn h5_nix_builds_by_the_hook_of_kiln() {
    let Some(store) = SharedStore::find(env!("CARGO_BIN_EXE_kiln")) else { return };
    let derivations = store.instantiate(
        "let make = name: script: derivation { inherit name; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         args = [ \"-ec\" script ]; }; in make \"top\" \"read it < ${make \"below\" \"echo content > $out\"}; echo a line; \
         echo $it > $out\"",
    );
    let remote = store.directory().join("remote");
    let hook = store.kiln_as("build-remote");
    let build = |more: &[&str]| {
        let arguments = ["--realise", &derivations[0], "--option", "substitute", "false", "--max-jobs", "0"];
        let mut command = store.nix().command("nix-store");
        command
            .args(arguments)
            .args(["--option", "sandbox-paths", &sandbox_paths_of_nix()])
            .args(["--option", "build-hook", hook.to_str().unwrap()])
            .args(more);
        Ran::from(command.output().unwrap())
    };
    let ran = build(&["--builders", &format!("{} - - 1 1", remote.display())]);
    let path = ran.line();
    assert_eq!(fs::read_to_string(path).unwrap(), "content\n");
    for message in [&format!("building '{}' on '{}'...", derivations[0], remote.display()), "a line"] {
        assert!(ran.stderr.contains(message), "{message}: {}", ran.stderr);
    }
    assert_eq!(store.nix_lines("nix-store", ["--read-log", path]), ["a line"]);
    store.verify();
    store.nix().run("nix-store", ["--delete", path]);
    let ran = build(&["--builders", &format!("{} riscv64-linux", remote.display())]);
    assert!(ran.failed(1).contains("Failed to find a machine for remote build!"), "{}", ran.stderr);
}

/// Who isn't trusted can have built only what is in the machine's store.
#[test]
fn h5_a_machine_that_does_not_trust_us_gets_the_derivation() {
    let Some(server) = SshServer::start() else { return };
    let Some(kiln) = with(Hook::Own) else { return };
    let program = remote_program(&kiln, &format!("{} daemon --force-untrusted", env!("CARGO_BIN_EXE_kiln")));
    let machine = |store: &str| {
        format!(
            "ssh-ng://127.0.0.1?remote-program={}&remote-store={}",
            program.display(),
            kiln.directory().join(store).display()
        )
    };
    let (remote, other) = (machine("remote"), machine("other"));
    let kiln = kiln.option("builders", &remote);
    let build = |kiln: &Kiln, recipe: &Recipe| {
        kiln.write("kiln.toml", recipe.text());
        let mut command = kiln.command(["build", "--no-link"]);
        Ran::from(command.env("NIX_SSHOPTS", server.options()).output().unwrap())
    };
    let ran = build(&kiln, &Recipe::script("echo it > $out"));
    assert_eq!(kiln.text(ran.line()), "it\n");
    let derivation = deriver(&kiln, ran.line());
    assert!(kiln.directory().join("remote").join(&derivation[1..]).exists(), "it was copied");
    let ran = build(&kiln, &failing());
    assert!(ran.failed(100).contains("going wrong"), "{}", ran.stderr);
    // What was built has no signature that a machine could trust.
    let below = Recipe::default().derivation("below", "echo below > $out");
    build(&kiln, &below).line();
    let kiln = kiln.option("builders", &other);
    let ran = build(&kiln, &below.derivation("above", "echo ${below} > $out"));
    assert!(ran.failed(1).contains("lacks a signature by a trusted key"), "{}", ran.stderr);
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Nothing goes on for an engine that is gone.
#[test]
fn h5_a_hook_ends_with_its_engine() {
    let Some(kiln) = with(Hook::Own) else { return };
    let remote = kiln.directory().join("remote");
    let kiln = kiln.option("builders", &remote.display().to_string());
    // The hook, and the daemon that it has started.
    let processes = || {
        let mark = kiln.directory().display().to_string();
        let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let text = |name: &str| {
                let bytes = fs::read(entry.as_ref().ok()?.path().join(name)).ok()?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            };
            text("environ")?.contains(&mark).then(|| text("cmdline"))?
        });
        commands.filter(|command| command.contains("__build-remote") || command.contains("--stdio")).count()
    };
    let wait_for = |count: usize| {
        let begun = Instant::now();
        while processes() != count {
            assert!(begun.elapsed() < Duration::from_secs(20), "there are {} processes", processes());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut engine = kiln.start_build(&Recipe::script("sleep 1000; echo > $out"), &[]);
    wait_for(2);
    engine.kill().unwrap();
    engine.wait().unwrap();
    wait_for(0);
}

/// What a machine says of a fixed output is checked; so it has to say what it is.
#[test]
fn h5_a_fixed_output_has_to_be_said_to_be_one() {
    let Some(kiln) = with(Hook::Own) else { return };
    let remote = kiln.directory().join("remote");
    let kiln = kiln.option("builders", &remote.display().to_string());
    let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let recipe = Recipe::script("printf abc > $out")
        .with(&format!("outputHash = \"{hash}\"\noutputHashMode = \"flat\""));
    let build = || kiln.build(&recipe, &[]);
    let path = build().line().to_owned();
    assert!(kiln.info(&path).unwrap()["ca"].as_str().is_some());
    kiln.forget(&path);
    // The machine has it still.
    forget_addresses(&remote);
    let ran = build();
    assert!(ran.failed(1).contains("it says nothing about that"), "{}", ran.stderr);
    assert_eq!(kiln.info(&path), None);
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Two machines, and what each may take.
#[test]
fn h5_machines_share_the_work() {
    let Some(kiln) = with(Hook::Own) else { return };
    let [first, second] = ["first", "second"].map(|name| kiln.directory().join(name).display().to_string());
    let kiln = kiln.option("builders", &format!("{first} - - 1 1 ; {second} - - 1 1"));
    // Both wait until there are two.
    let meet = kiln.directory().join("meet");
    fs::create_dir(&meet).unwrap();
    let script = "n=0; : > /meet/$name; while [ \"$(echo /meet/*)\" != \"/meet/a /meet/b\" ]; do n=$((n+1)); [ $n -lt 3000 ]; \
                  sleep 0.02; done; echo > $out";
    let kiln = kiln.option("sandbox-paths", &format!("{} /meet={}", SANDBOX_PATHS, meet.display()));
    let recipe = Recipe::default().derivation("a", script).derivation("b", script);
    let ran = kiln.build(&recipe, &[]);
    assert_eq!(ran.lines().len(), 2);
    for machine in [&first, &second] {
        let on = format!(" on '{machine}'...");
        assert_eq!(ran.stderr.matches(&on).count(), 1, "{}", ran.stderr);
    }
    // One that can't be reached is passed over.
    let kiln =
        kiln.option("builders", &format!("ssh://localhost?remote-program=/none - - 1 9 ; {second} - - 1 1"));
    let ran = kiln.build(&Recipe::script("echo > $out"), &[]);
    assert!(ran.stderr.contains("cannot build on 'ssh://localhost?remote-program=/none'"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!(" on '{second}'...")), "{}", ran.stderr);
    ran.line();
}
