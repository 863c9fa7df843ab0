//! What clients bring.

use std::fs;

use kiln_testing::NixPeer;

use super::daemon;

#[test]
fn files_and_trees_get_the_paths_of_nix() {
    let Some(daemon) = daemon() else { return };
    daemon.write("file", "contents\n");
    fs::create_dir_all(daemon.path("tree/below")).unwrap();
    daemon.write("tree/below/script", "#!/bin/sh\n");
    std::os::unix::fs::symlink("below", daemon.path("tree/link")).unwrap();
    daemon.write("large", vec![7_u8; 20 << 20]);
    for arguments in [
        &["--add", "file", "tree", "large"][..],
        &["--add-fixed", "sha1", "file"],
        &["--add-fixed", "--recursive", "sha512", "tree"],
    ] {
        let ours = daemon.run("nix-store", arguments);
        assert_eq!(ours.code, Some(0), "{}", ours.stderr);
        // Already valid for it: the paths are the same, or there would be more.
        let before = daemon.nix().run("nix-store", ["--dump-db"]);
        let theirs =
            daemon.nix().command("nix-store").current_dir(daemon.directory()).args(arguments).output();
        assert_eq!(ours.stdout, String::from_utf8_lossy(&theirs.unwrap().stdout), "{arguments:?}");
        assert_eq!(before, daemon.nix().run("nix-store", ["--dump-db"]), "{arguments:?}");
    }
    let ran = daemon.run("nix", ["store", "add-path", "tree", "--name", "t"]);
    assert!(ran.line().ends_with("-t"));
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}

/// Paths copied in from another store, and out again.
#[test]
fn closures_are_copied() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["b"]).remove(0);
    let cache = format!("file://{}", daemon.path("cache").display());
    let ran = daemon.run("nix", ["copy", "--to", &cache, &out]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // To a second daemon, whose store directory has the same name.
    let mut second = super::Daemon::find(super::KILN).unwrap();
    second.start(&[
        "--store",
        &format!(
            "local?store={}&real={}&state={}&log={}",
            daemon.nix().store_dir().display(),
            second.nix().store_dir().display(),
            second.nix().state_dir().display(),
            second.nix().log_dir().display()
        ),
    ]);
    let copy = |arguments: &[&str]| {
        let mut command = second.client("nix");
        command.env("NIX_STORE_DIR", daemon.nix().store_dir());
        command.args(["copy", "--from", &cache, &out]).args(arguments).output().unwrap()
    };
    let refused = copy(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("lacks a"), "unsigned: {said}");
    let copied = copy(&["--no-check-sigs"]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let name = std::path::Path::new(&out).file_name().unwrap();
    assert_eq!(fs::read_to_string(second.nix().store_dir().join(name)).unwrap(), "hi\n");
}

#[test]
fn exports_are_imported() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["b"]).remove(0);
    let closure = daemon.run("nix-store", ["-qR", &out]).stdout;
    let export = daemon.client("nix-store").arg("--export").args(closure.lines()).output().unwrap();
    assert!(export.status.success() && export.stdout.len() > 200);
    let file = daemon.write("export", &export.stdout);
    let import =
        daemon.client("nix-store").arg("--import").stdin(fs::File::open(file).unwrap()).output().unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    assert_eq!(String::from_utf8_lossy(&import.stdout).lines().count(), closure.lines().count());
}

#[test]
fn signatures_and_logs_are_added() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["a"]).remove(0);
    let key = daemon.path("key");
    let made = daemon.run(
        "nix-store",
        [
            "--generate-binary-cache-key".as_ref(),
            "test-1".as_ref(),
            key.as_os_str(),
            daemon.path("key.pub").as_os_str(),
        ],
    );
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let ran = daemon.run("nix", ["store", "sign", "-k", key.to_str().unwrap(), &out]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let info = daemon.run("nix", ["path-info", "--sigs", &out]);
    assert!(info.stdout.contains("test-1:"), "{}", info.stdout);
    let derivation = daemon.instantiate("a");
    let from = NixPeer::find(&daemon.path("other")).unwrap();
    let logs = from.log_dir().join("drvs");
    let name = std::path::Path::new(&derivation).file_name().unwrap().to_str().unwrap();
    fs::create_dir_all(logs.join(&name[..2])).unwrap();
    fs::write(logs.join(&name[..2]).join(&name[2..]), "told elsewhere\n").unwrap();
    let store = format!(
        "local?store={}&state={}&log={}",
        daemon.nix().store_dir().display(),
        from.state_dir().display(),
        from.log_dir().display()
    );
    let ran = daemon.run("nix", ["store", "copy-log", "--from", &store, &derivation]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(daemon.run("nix-store", ["--read-log", &derivation]).stdout, "told elsewhere\n");
}
