//! Builds with ids of their own (`auto-allocate-uids`, B7), and in cgroups of their own (`use-cgroups`, D11, D12).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use kiln_testing::{Kiln, Ran, Recipe, missing, needs_root};
use serde_json::Value;

/// Far from the ids of other tests, and of what Nix takes by itself.
const START: u32 = 0x3a00_0000;

fn kiln() -> Kiln {
    Kiln::new(env!("CARGO_BIN_EXE_kiln"))
}

/// Kiln with ids from a range; only as root.
fn with_ids(slots: u32) -> Option<Kiln> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        needs_root("give ids to builds");
        return None;
    }
    let kiln = kiln().option("auto-allocate-uids", "true").option("start-id", &START.to_string());
    Some(kiln.option("id-count", &(slots * 65_536).to_string()))
}

/// The cgroup of the tests, if others can be made in it.
fn own_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let directory = mount.zip(own).map(|(mount, own)| {
        let fields: Vec<&str> = mount.split(' ').collect();
        let below = format!("/{own}");
        let below = below.strip_prefix(fields[3].trim_end_matches('/')).unwrap_or(&below);
        PathBuf::from(format!("{}/{}", fields[4], below.trim_start_matches('/')))
    });
    let usable = directory.filter(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok());
    if usable.is_none() {
        if rustix::process::geteuid().is_root() {
            missing("a cgroup of version 2 in which others can be made");
        } else {
            // Where nobody has handed one over, only root has one.
            needs_root("make cgroups here");
        }
    }
    usable
}

/// What a build's result says.
fn result(ran: &Ran) -> Value {
    let all: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
    all[0].clone()
}

/// The ids to which the builder's are mapped, and how many.
const SHOW_IDS: &str = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' > $out; id -u >> $out";

#[test]
fn b7_ids_without_accounts_are_one_builds_alone() {
    let Some(kiln) = with_ids(2) else { return };
    let recipe = Recipe::default()
        .derivation("one", "touch ready; while ! test -e go; do sleep 0.05; done; cp /proc/self/uid_map $out")
        .derivation("two", "touch ready; while ! test -e go; do sleep 0.05; done; cp /proc/self/uid_map $out")
        .derivation("three", "cp /proc/self/uid_map $out");
    let child = kiln.start_build(&recipe, &["-j3"]);
    let builds = kiln.root().join("nix/var/nix/builds");
    let is_ready = |name: &str| builds.join(format!("nix-build-{name}.drv-0/build/ready")).exists();
    // The third may come first; in the end the two that wait have both slots.
    kiln.wait_until("two builds", || is_ready("one") && is_ready("two"));
    let owner =
        |name: &str| fs::metadata(builds.join(format!("nix-build-{name}.drv-0/build"))).unwrap().uid();
    let mut owners = [owner("one"), owner("two")];
    owners.sort_unstable();
    assert_eq!(owners, [START, START + 65_536]);
    for name in ["one", "two"] {
        fs::write(builds.join(format!("nix-build-{name}.drv-0/build/go")), "").unwrap();
    }
    for path in Ran::from(child).lines() {
        let map = kiln.text(path);
        let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!([words[0], words[2]], [1000, 1], "one id, as ever");
        assert!(words[1] == START || words[1] == START + 65_536, "{map}");
    }
    let slots = kiln.root().join("nix/var/nix/userpool2");
    assert_eq!(fs::metadata(slots.join("slot-0")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn b7_a_slot_that_another_process_has_is_not_taken() {
    let Some(kiln) = with_ids(2) else { return };
    let pool = kiln.root().join("nix/var/nix/userpool2");
    fs::create_dir_all(&pool).unwrap();
    let slot = fs::File::create(pool.join("slot-0")).unwrap();
    rustix::fs::flock(&slot, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let text = kiln.text(kiln.build(&Recipe::script(SHOW_IDS), &[]).line());
    assert!(text.contains(&format!(" {} 1\n", START + 65_536)), "{text}");
}

#[test]
fn b7_a_range_that_is_none_is_refused() {
    for (setting, value, reason) in [
        ("id-count", "1000", "the count must be a multiple of 65536"),
        ("start-id", "0", "may not be root's"),
    ] {
        let Some(kiln) = with_ids(1) else { return };
        let ran = kiln.option(setting, value).build(&Recipe::script("echo > $out"), &[]);
        assert!(ran.failed(1).contains(reason), "{}", ran.stderr);
    }
}

#[test]
fn b7_a_derivation_that_wants_a_range_is_root_in_it_and_in_its_cgroup() {
    let Some(kiln) = with_ids(1) else { return };
    if own_cgroup().is_none() {
        return;
    }
    let kiln = kiln.option("extra-system-features", "uid-range");
    let script = "{ tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; id -u; id -g; cat /proc/self/cgroup | grep '^0:'\n\
        touch file; chown 1234:1234 file; stat -c '%u %g' file; rm file\n\
        mkdir /sys/fs/cgroup/inner; echo $$ > /sys/fs/cgroup/inner/cgroup.procs; grep '^0:' /proc/self/cgroup\n\
        mount -t tmpfs x /mnt 2>/dev/null || echo no mount; unshare --mount mount -t tmpfs x /tmp && echo own mounts\n\
        ls /sys/fs/cgroup/.. ; } > text; cp text $out";
    let recipe = Recipe::script(script).with("env.requiredSystemFeatures = \"uid-range\"");
    let ran = kiln.build(&recipe, &["--option", "use-cgroups", "true"]);
    let text = kiln.text(ran.line());
    assert_eq!(
        text,
        format!(
            " 0 {START} 65536\n 0 {START} 65536\n0\n0\n0::/\n1234 1234\n0::/inner\nno mount\nown mounts\ncgroup\n"
        )
    );
    assert_eq!(kiln.remains(), [""; 0]);
    assert!(!own_cgroup().unwrap().join(format!("nix-build-uid-{START}")).exists());
}

#[test]
fn b7_a_range_of_ids_needs_settings_that_are_named() {
    let kiln = kiln().option("extra-system-features", "uid-range");
    let recipe = Recipe::script("echo > $out").with("env.requiredSystemFeatures = \"uid-range\"");
    let ran = kiln.build(&recipe, &[]);
    assert!(ran.failed(1).contains("requires the setting 'auto-allocate-uids'"), "{}", ran.stderr);
    let Some(kiln) = with_ids(1) else { return };
    let ran = kiln.build(&recipe, &["--option", "extra-system-features", "uid-range"]);
    assert!(ran.failed(1).contains("requires the setting 'use-cgroups'"), "{}", ran.stderr);
}

#[test]
fn d12_a_builds_cgroup_counts_all_its_processes_and_goes() {
    let Some(cgroup) = own_cgroup() else { return };
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("use-cgroups", "true");
    // Children that nobody waits for are in no other count of time.
    let script = "setsid sh -c 'i=0; while test $i -lt 300000; do i=$((i + 1)); done; echo done > done' & \
                  while ! test -e done; do sleep 0.05; done; grep '^0:' /proc/self/cgroup > $out";
    let ran = kiln.build(&Recipe::script(script), &["--json"]);
    let result = result(&ran);
    assert!(result["cpuUser"].as_u64().unwrap() > 50_000, "{result}");
    assert!(result["isolation"].as_str().unwrap().contains("cgroup; not isolated"), "{result}");
    // Only where there is the controller.
    let counts = fs::read_to_string(cgroup.join("cgroup.subtree_control")).unwrap().contains("memory");
    assert_eq!(result["memoryPeak"].is_u64(), counts, "{result}");
    let text = kiln.text(result["outputs"]["out"].as_str().unwrap());
    assert!(text.contains("/nix-build-"), "{text}");
    let name = text.trim_end().rsplit('/').next().unwrap();
    assert!(!cgroup.join(name).exists(), "{name}");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d11_a_builder_cannot_leave_its_cgroup() {
    let Some(_) = own_cgroup() else { return };
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("use-cgroups", "true");
    let script = "mine=$(grep '^0:' /proc/self/cgroup); test ! -e /sys/fs/cgroup\n\
        unshare --user --map-root-user --mount --cgroup sh -c 'mount -t cgroup2 x /tmp && mkdir /tmp/out && echo $$ > /tmp/out/cgroup.procs' 2>/dev/null && exit 1\n\
        unshare --user --map-root-user --mount sh -c 'mount -t cgroup2 x /tmp && echo $$ > /tmp/cgroup.procs' 2>/dev/null && exit 1\n\
        setsid sleep 1000 & test \"$mine\" = \"$(grep '^0:' /proc/self/cgroup)\"; echo > $out";
    kiln.build(&Recipe::script(script), &[]).line();
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn d11_without_cgroups_to_make_the_setting_is_an_error() {
    let kiln = kiln().option("use-cgroups", "true");
    kiln.write("kiln.toml", Recipe::script("echo > $out").text());
    let command = kiln.command(["build", "--no-link"]);
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        needs_root("hide the cgroups of the machine");
        return;
    }
    let mut hidden = std::process::Command::new("unshare");
    let script = "umount -R -l /sys && exec \"$@\"";
    hidden.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    hidden.arg(command.get_program()).args(command.get_args()).current_dir(kiln.directory()).env_clear();
    hidden.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::from(hidden.output().unwrap());
    let stderr = ran.failed(1);
    assert!(stderr.contains("builds cannot have cgroups of their own, as 'use-cgroups' demands"), "{stderr}");
    assert!(stderr.contains("'use-cgroups = false'"), "{stderr}");
}
