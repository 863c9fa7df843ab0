//! Stores on one file system that can share data between files.

use std::process::Command;

use kiln_testing::{Ran, missing, needs_root};

use crate::world::World;

/// Two stores on a file system of their own, in a mount namespace that goes with the shell. `$KILN` is the program and what
/// all its commands begin with.
const SCRIPT: &str = r#"
mount --make-rprivate /
mount -o loop image place
copy() { "$KILN" copy --no-check-sigs "$@"; }
copy --to "local?store=$STORE&real=$PWD/place/a/store&state=$PWD/place/a/state&log=$PWD/place/a/log" "$TOP"
copy -v --from "local?store=$STORE&real=$PWD/place/a/store&state=$PWD/place/a/state&log=$PWD/place/a/log" \
     --to "local?store=$STORE&real=$PWD/place/b/store&state=$PWD/place/b/state&log=$PWD/place/b/log" "$TOP"
sync
diff -r --no-dereference place/a/store place/b/store
filefrag -v place/b/store/*-big
"$KILN" store verify --check-contents \
     --store "local?store=$STORE&real=$PWD/place/b/store&state=$PWD/place/b/state&log=$PWD/place/b/log"
"#;

#[test]
fn files_are_cloned_where_that_is_possible() {
    if !rustix::process::geteuid().is_root() {
        return needs_root("mount a file system");
    }
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !has("mkfs.btrfs") {
        return missing("mkfs.btrfs (Debian's btrfs-progs)");
    }
    let Some(world) = World::new() else { return };
    std::fs::create_dir(world.place("place")).unwrap();
    let image = world.place("image");
    std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    assert!(Command::new("mkfs.btrfs").arg("-q").arg(&image).status().unwrap().success());
    let kiln = world.store.kiln_command(["--version"]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", SCRIPT]).current_dir(world.store.directory()).env_clear();
    command.envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("KILN", kiln.get_program());
    command.env("STORE", world.store.nix().store_dir()).env("TOP", &world.top);
    let ran = Ran::from(command.output().unwrap());
    let lines = ran.lines().join("\n");
    assert!(lines.contains("shared"), "{lines}");
    assert_eq!(ran.stderr.matches("cloning path").count(), world.closure.len(), "{}", ran.stderr);
}
