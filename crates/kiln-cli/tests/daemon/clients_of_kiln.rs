//! Kiln as a client: builds, queries and additions that go through a daemon, Kiln's or real Nix's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kiln_testing::{Daemon, Ran, signal};

use super::KILN;

/// A daemon of real Nix in the place of Kiln's; ended with this value.
struct OfNix(Child);

impl OfNix {
    fn start(daemon: &Daemon) -> Self {
        let mut command = daemon.nix().command("nix-daemon");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while std::os::unix::net::UnixStream::connect(daemon.socket()).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "real Nix's daemon does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for OfNix {
    fn drop(&mut self) {
        signal("TERM", self.0.id());
        let _ = self.0.wait();
    }
}

/// Runs a test with both daemons.
fn with_both(test: impl Fn(&Daemon, &str)) {
    for whose in ["nix", "kiln"] {
        let Some(mut daemon) = Daemon::find(KILN) else { return };
        let _of_nix = if whose == "nix" {
            Some(OfNix::start(&daemon))
        } else {
            daemon.start(&[]);
            None
        };
        test(&daemon, whose);
    }
}

fn link(daemon: &Daemon) -> PathBuf {
    let link = daemon.path("nix-store");
    if !link.exists() {
        std::os::unix::fs::symlink(KILN, &link).unwrap();
    }
    link
}

/// Kiln's `nix-store` with the daemon.
fn nix_store(daemon: &Daemon, arguments: &[&str]) -> Ran {
    daemon.run(link(daemon).to_str().unwrap(), arguments)
}

#[test]
fn derivations_are_realised_by_the_daemon() {
    with_both(|daemon, whose| {
        let derivation = daemon.instantiate("a");
        let dry = nix_store(daemon, &["-r", "--dry-run", &derivation]);
        assert!(dry.stderr.contains("will be built"), "{whose}: {}", dry.stderr);
        let root = daemon.path("kept");
        let realised = nix_store(daemon, &["-r", &derivation, "--add-root", root.to_str().unwrap()]);
        assert_eq!(realised.line(), root.to_str().unwrap(), "{whose}: {}", realised.stderr);
        assert!(realised.stderr.contains("building a"), "the log is shown: {}", realised.stderr);
        let output = std::fs::read_link(&root).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "hi\n");
        let collected = nix_store_of_nix(daemon, &["--gc"]);
        assert_eq!(collected.code, Some(0), "{}", collected.stderr);
        assert!(output.exists(), "the link keeps it");
        std::fs::remove_file(&root).unwrap();
        nix_store_of_nix(daemon, &["--gc"]);
        assert!(!output.exists());
    });
}

#[test]
fn what_a_store_knows_of_paths_is_asked_of_the_daemon() {
    with_both(|daemon, whose| {
        let derivation = daemon.instantiate("a");
        let told = daemon.run(KILN, ["store", "info", "--json", "--closure-size", &derivation]);
        assert_eq!(told.code, Some(0), "{whose}: {}", told.stderr);
        let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        let told = &told[&derivation];
        let closure = daemon.run("nix-store", ["-qR", &derivation]);
        let sizes = daemon.run("nix-store", ["-q", "--size"].into_iter().chain(closure.lines()));
        let size: u64 = sizes.lines().iter().map(|size| size.parse::<u64>().unwrap()).sum();
        assert_eq!(told["closureSize"], size, "{whose}");
        assert!(told["registrationTime"].as_u64() > Some(0), "{whose}: {told}");
        assert_eq!(told.get("url"), None);
    });
}

fn nix_store_of_nix(daemon: &Daemon, arguments: &[&str]) -> Ran {
    daemon.run("nix-store", arguments)
}

#[test]
fn failures_of_the_daemon_are_told() {
    with_both(|daemon, whose| {
        daemon.write(
            "default.nix",
            r#"{ bad = derivation { name = "bad"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo so bad; exit 3" ]; }; }"#,
        );
        let derivation = daemon.instantiate("bad");
        let failed = nix_store(daemon, &["-r", &derivation]);
        assert!(failed.failed(100).contains("failed with exit code 3"), "{whose}: {}", failed.stderr);
        assert!(failed.stderr.contains("so bad"), "{whose}: {}", failed.stderr);
        let failed = kiln(daemon, &["build", "--no-link", &derivation]);
        assert!(failed.failed(100).contains("failed with exit code 3"), "{whose}: {}", failed.stderr);
    });
}

fn kiln(daemon: &Daemon, arguments: &[&str]) -> Ran {
    daemon.run(KILN, arguments)
}

#[test]
fn derivations_are_built_by_the_daemon() {
    with_both(|daemon, whose| {
        let derivation = daemon.instantiate("b");
        let link = daemon.path("result");
        let built = kiln(daemon, &["build", &derivation, "-o", link.to_str().unwrap(), "--json"]);
        assert_eq!(built.code, Some(0), "{whose}: {}", built.stderr);
        let told: serde_json::Value = serde_json::from_str(&built.stdout).unwrap();
        let output = told[0]["outputs"]["out"].as_str().unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap().to_str().unwrap(), output);
        let path = kiln(daemon, &["build", "--no-link", output]);
        assert_eq!(path.line(), output, "{whose}: {}", path.stderr);
    });
}

/// What a recipe says is added by way of the daemon as it would be to the store itself.
#[test]
fn recipes_are_built_by_the_daemon() {
    with_both(|daemon, whose| {
        for directory in ["source", "source/kept", "source/left", "source/kept/empty"] {
            std::fs::create_dir_all(daemon.path(directory)).unwrap();
        }
        let program = daemon.write("source/kept/program", "a program");
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("kept/program", daemon.path("source/link")).unwrap();
        for (file, contents) in
            [("source/left/x", "x"), ("source/kept/x.o", "x"), ("whole", "whole"), ("source/none", "")]
        {
            daemon.write(file, contents);
        }
        let recipe = "
            [derivation.below]
            builder = '/bin/sh'
            args = ['-c', 'echo below > $out']
            [derivation.it]
            builder = '/bin/sh'
            args = ['-ec', 'echo $source/* $source/kept/* $whole > $out; read line < $below; echo $line >> $out']
            env.source = { path = 'source', exclude = ['left', '*.o'] }
            env.whole = { path = 'whole' }
            env.below = { output = 'below' }
            ";
        let file = daemon.write("kiln.toml", recipe);
        let target = format!("{}:it", file.display());
        let built = kiln(daemon, &["build", "--no-link", &target, "--json"]);
        assert_eq!(built.code, Some(0), "{whose}: {}", built.stderr);
        let told: serde_json::Value = serde_json::from_str(&built.stdout).unwrap();
        let output = std::fs::read_to_string(told[0]["outputs"]["out"].as_str().unwrap()).unwrap();
        // Without store directory and digest.
        let words: Vec<&str> = output
            .split_ascii_whitespace()
            .map(|path| path.rsplit_once("/store/").map_or(path, |(_, path)| &path[33..]))
            .collect();
        let kept = ["source/kept", "source/link", "source/none", "source/kept/empty", "source/kept/program"];
        assert_eq!(words, [&kept[..], &["whole", "below"]].concat(), "{whose}");
        let local = kiln(daemon, &["derivation", "show", "--store", "local", &target]);
        assert_eq!(local.code, Some(0), "{whose}: {}", local.stderr);
        let name = told[0]["drvPath"].as_str().unwrap().rsplit('/').next().unwrap();
        assert!(local.stdout.contains(name), "{whose}: {name}: {}", local.stdout);
        let wrong = daemon
            .write("wrong.toml", "[derivation.it]\nbuilder = '/bin/sh'\nenv.x = { path = 'nowhere' }\n");
        let refused = kiln(daemon, &["build", "--no-link", wrong.to_str().unwrap()]);
        assert!(refused.failed(1).contains("wrong.toml:3:18"), "{whose}: {}", refused.stderr);
    });
}

#[test]
fn questions_are_answered_as_by_nix() {
    with_both(|daemon, whose| {
        let output = daemon.build(&["b"]).remove(0);
        let derivation = daemon.instantiate("b");
        for question in [
            &["-q", "--references"][..],
            &["-q", "--requisites"],
            &["-q", "--referrers"],
            &["-q", "--referrers-closure"],
            &["-q", "--deriver"],
            &["-q", "--hash"],
            &["-q", "--size"],
            &["-q", "--tree"],
            &["-q", "--graph"],
            &["-q", "--outputs"],
            &["-q", "--resolve"],
            &["-qu", "--hash"],
        ] {
            for path in [&output, &derivation] {
                let words = [question, &[path]].concat();
                let (ours, theirs) = (nix_store(daemon, &words), nix_store_of_nix(daemon, &words));
                // Asked for the outputs of what is none, Nix looks for it; its own words differ from version to version.
                assert_eq!(ours.stdout, theirs.stdout, "{whose}: {words:?}: {}", ours.stderr);
                assert_eq!(ours.code, theirs.code, "{whose}: {words:?}: {}", ours.stderr);
            }
        }
        let unknown = format!("{}/00000000000000000000000000000000-x", daemon.nix().store_dir().display());
        let refused = nix_store(daemon, &["-q", "--hash", &unknown]);
        assert!(refused.failed(1).contains("is not valid"), "{whose}: {}", refused.stderr);
        let refused = nix_store(daemon, &["-q", "--roots", &output]);
        assert!(refused.failed(1).contains("works only on local stores"), "{whose}: {}", refused.stderr);
    });
}

#[test]
fn files_are_added_by_the_daemon() {
    with_both(|daemon, whose| {
        let tree = daemon.path("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("file"), "contents\n").unwrap();
        std::os::unix::fs::symlink("file", tree.join("link")).unwrap();
        let file = daemon.write("flat", "flat\n");
        let (tree, file) = (tree.to_str().unwrap(), file.to_str().unwrap());
        for words in [
            &["--add", tree, file][..],
            &["--add-fixed", "sha256", file],
            &["--add-fixed", "--recursive", "sha1", tree],
        ] {
            let ours = nix_store(daemon, words);
            assert_eq!(ours.code, Some(0), "{whose}: {words:?}: {}", ours.stderr);
            for path in ours.stdout.lines() {
                assert_eq!(
                    nix_store_of_nix(daemon, &["--verify-path", path]).code,
                    Some(0),
                    "{whose}: {words:?}"
                );
            }
            assert_eq!(ours.stdout, nix_store_of_nix(daemon, words).stdout, "{whose}: {words:?}");
        }
    });
}
