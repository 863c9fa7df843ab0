//! Collection, verification and sharing of equal files, asked for by clients.

use std::fs;

use super::daemon;

#[test]
fn garbage_is_collected_and_roots_keep() {
    let Some(daemon) = daemon() else { return };
    let kept = daemon.run("nix-build", ["-A", "b", "-o", "result"]).line().to_owned();
    let garbage = daemon.build(&["fod"]).remove(0);
    let dead = daemon.run("nix-store", ["--gc", "--print-dead"]);
    assert!(dead.lines().contains(&garbage.as_str()) && !dead.stdout.contains(&kept), "{}", dead.stdout);
    let live = daemon.run("nix-store", ["--gc", "--print-live"]);
    assert!(live.lines().contains(&kept.as_str()) && !live.stdout.contains(&garbage), "{}", live.stdout);
    let roots = daemon.run("nix-store", ["--gc", "--print-roots"]);
    assert!(
        roots.stdout.contains(&format!("{} -> {kept}", daemon.path("result").display())),
        "{}",
        roots.stdout
    );
    let collected = daemon.run("nix-store", ["--gc"]);
    assert_eq!(collected.code, Some(0), "{}", collected.stderr);
    assert!(collected.stdout.contains("store paths deleted"), "{}", collected.stdout);
    assert!(!fs::exists(&garbage).unwrap() && fs::exists(&kept).unwrap());
    let alive = daemon.run("nix-store", ["--delete", &kept]);
    assert!(alive.failed(1).contains("alive"), "{}", alive.stderr);
    fs::remove_file(daemon.path("result")).unwrap();
    // The `dev` output is garbage of its own.
    let deleted = daemon.run("nix", ["store", "delete", &kept]);
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    assert!(!fs::exists(&kept).unwrap());
    let all = daemon.run("nix-collect-garbage", ["-d"]);
    assert_eq!(all.code, Some(0), "{}", all.stderr);
    let left = daemon.run("nix", ["path-info", "--all"]);
    assert_eq!(left.stdout, "", "{}", left.stderr);
}

/// What a client is working with is no garbage.
#[test]
fn what_a_client_holds_is_spared() {
    let Some(daemon) = daemon() else { return };
    let mut client = daemon.client("nix-build").args(["-A", "silent", "--no-out-link"]).spawn().unwrap();
    daemon.wait_until("a builder", || !daemon.builders().is_empty());
    let derivation = daemon.instantiate("silent");
    assert_eq!(daemon.run("nix-store", ["--gc"]).code, Some(0));
    assert!(fs::exists(&derivation).unwrap());
    kiln_testing::signal("KILL", client.id());
    client.wait().unwrap();
    daemon.wait_until("it is garbage", || {
        daemon.run("nix-store", ["--gc"]);
        !fs::exists(&derivation).unwrap()
    });
}

#[test]
fn the_store_is_verified_repaired_and_optimised() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["a", "b"]).remove(0);
    assert_eq!(daemon.run("nix-store", ["--verify", "--check-contents"]).code, Some(0));
    let damaged = std::process::Command::new("sh")
        .args(["-ec", "chmod u+w \"$1\"; echo bad > \"$1\"; chmod 444 \"$1\"", "sh", &out])
        .status();
    assert!(damaged.unwrap().success());
    let found = daemon.run("nix-store", ["--verify", "--check-contents"]);
    assert!(found.failed(1).contains("was modified! expected hash 'sha256:"), "{}", found.stderr);
    let repaired = daemon.run("nix-store", ["--verify", "--check-contents", "--repair"]);
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    assert_eq!(fs::read_to_string(&out).unwrap(), "hi\n");
    for command in [&["nix-store", "--optimise"][..], &["nix", "store", "optimise"]] {
        let ran = daemon.run(command[0], &command[1..]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    use std::os::unix::fs::MetadataExt;
    assert!(fs::metadata(&out).unwrap().nlink() > 1, "a and b have the same contents");
}
