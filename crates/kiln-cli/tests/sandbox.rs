//! What the engine keeps builders from, and what it shows them (X1–X11).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use kiln_testing::{Kiln, Ran, Recipe, needs_root};

const KILN: &str = env!("CARGO_BIN_EXE_kiln");

fn kiln() -> Kiln {
    Kiln::as_used(KILN)
}

/// The text of the output of a script.
#[track_caller]
fn output(script: &str) -> String {
    let kiln = kiln();
    kiln.text(kiln.build(&Recipe::script(script), &[]).line())
}

#[test]
fn x1_no_chroot_is_refused_in_a_sandbox() {
    let kiln = kiln();
    let recipe = Recipe::script("echo > $out").with("env.__noChroot = true");
    let ran = kiln.build(&recipe, &["--json"]);
    let derivation = kiln.instantiate(&recipe);
    let message = format!(
        "derivation '{derivation}' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'"
    );
    assert!(ran.failed(100).contains(&message), "{}", ran.stderr);
    assert!(ran.stdout.contains("InputRejected"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x1_relaxed_lets_out_whoever_asks_for_it() {
    let kiln = kiln().in_place().option("sandbox", "relaxed");
    let marker = kiln.write("marker", "seen");
    let script =
        format!("if test -e {}; then echo outside > $out; else echo inside > $out; fi", marker.display());
    let asking = Recipe::script(&script).with("env.__noChroot = true");
    assert_eq!(kiln.text(kiln.build(&asking, &[]).line()), "outside\n");
    assert_eq!(kiln.text(kiln.build(&Recipe::script(&script), &[]).line()), "inside\n");
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x1_without_a_sandbox_builders_see_the_host_and_still_leave_nothing() {
    let kiln = kiln().in_place().option("sandbox", "false");
    let marker = kiln.write("marker", "seen");
    let script = format!("setsid sleep 1000 & cat {} > $out; pwd >> $out", marker.display());
    let ran = kiln.build(&Recipe::script(&script), &["--json"]);
    assert!(ran.stdout.contains("not isolated: files"), "{}", ran.stdout);
    let path = kiln.build(&Recipe::script(&script), &[]).line().to_owned();
    let text = kiln.text(&path);
    assert!(text.starts_with("seen") && text.contains("/nix-build-it.drv-0/build\n"), "{text}");
    assert_eq!(kiln.remains(), [""; 0]);
    kiln.build(&Recipe::script("mkdir $out; touch $out/x; exit 1"), &[]).failed(100);
    assert_eq!(fs::read_dir(kiln.root().join("nix/store")).unwrap().filter(is_output).count(), 1);
    assert_eq!(kiln.remains(), [""; 0]);
}

fn is_output(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with("-it")
}

#[test]
fn x1_without_a_sandbox_what_is_valid_is_not_written_to() {
    let kiln = kiln().in_place().option("sandbox", "false");
    let recipe = Recipe::script("echo > $out; echo > $dev").with("outputs = [\"out\", \"dev\"]");
    let ran = kiln.build(&recipe, &[]);
    let [dev, out] = ran.lines()[..] else { panic!("{}", ran.stdout) };
    kiln.forget(dev);
    let identity = |path: &str| std::fs::metadata(kiln.real(path)).unwrap().ino();
    let before = identity(out);
    kiln.build(&recipe, &[]).lines();
    assert_eq!(identity(out), before);
    assert!(kiln.info(dev).is_some());
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x1_a_diverted_store_is_always_sandboxed() {
    let kiln = kiln().option("sandbox", "relaxed");
    let ran = kiln.build(&Recipe::script("echo > $out").with("env.__noChroot = true"), &[]);
    assert!(ran.failed(100).contains("must be built in a sandbox"), "{}", ran.stderr);
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln")).option("sandbox", "false");
    let marker = kiln.write("marker", "");
    let script = format!("test ! -e {}; echo > $out", marker.display());
    kiln.build(&Recipe::script(&script), &[]).line();
}

#[test]
fn x2_names_ids_and_network_are_the_sandboxs_own() {
    let text = output(
        "{ id -u; id -g; id -G; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname\n\
         tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; } > $out",
    );
    assert_eq!(text, "1000\n100\n100\nlocalhost\n(none)\nlo\n");
}

#[test]
fn x2_the_isolation_is_in_the_result_and_the_log() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("echo > $out"), &["--json", "-v"]);
    let isolated = "isolated: files, processes, ipc, host name, network, abstract sockets, user IDs";
    assert!(ran.stdout.contains(isolated), "{}", ran.stdout);
    assert!(ran.stderr.contains(isolated), "{}", ran.stderr);
}

/// An ordinary user.
const NOBODY: u32 = 65_534;

/// Builds where no mount namespace can be had, and no user namespace to have one in; as an ordinary user, or as root.
fn where_sandboxes_are_refused(kiln: &Kiln, options: &[&str], id: u32) -> Option<Ran> {
    kiln.write("kiln.toml", Recipe::script("echo built > $out").text());
    let command = kiln.command(["build", "--no-link"].iter().chain(options));
    // The inner user namespace is the last one that the outer one allows.
    let script = format!(
        "echo 0 > /proc/sys/user/max_mnt_namespaces && echo 1 > /proc/sys/user/max_user_namespaces && \
         exec unshare --user --map-user={id} --map-group={id} \"$@\""
    );
    let mut refusing = Command::new("unshare");
    refusing.args(["--user", "--map-root-user", "sh", "-c", &script, "sh"]);
    refusing.arg(command.get_program()).args(command.get_args()).current_dir(kiln.directory()).env_clear();
    refusing.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::from(refusing.output().unwrap());
    if ran.stderr.contains("unshare failed") || ran.stderr.contains("/proc/sys/user") {
        kiln_testing::missing("user namespaces that can be limited");
        return None;
    }
    Some(ran)
}

#[test]
fn x2_a_build_does_not_lose_its_sandbox_silently() {
    let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln")).in_place();
    let Some(ran) = where_sandboxes_are_refused(&kiln, &["--json"], NOBODY) else { return };
    let stderr = ran.failed(1);
    assert!(stderr.contains("unable to start build process"), "{stderr}");
    assert!(stderr.contains("'sandbox-fallback = true'"), "{stderr}");
    assert!(ran.stdout.contains("MiscFailure"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x2_it_loses_it_loudly_where_that_is_accepted() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    for id in if is_root { &[NOBODY, 0][..] } else { &[NOBODY] } {
        let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln")).in_place();
        let Some(ran) = where_sandboxes_are_refused(&kiln, &["--sandbox-fallback"], *id) else { return };
        assert_eq!(kiln.text(ran.line()), "built\n");
        assert!(ran.stderr.contains("without a sandbox, since "), "{}", ran.stderr);
        assert_eq!(kiln.remains(), [""; 0]);
    }
}

#[test]
fn x2_fixed_outputs_get_the_network_that_the_setting_says() {
    let kiln = kiln();
    let recipe =
        Recipe::script("echo > $out").fixed("sha256-AbpHGcgLb+kRsJGnwFEktk7uzpZOCcBY74+YBdrKVGs=", "flat");
    let ran = kiln.build(&recipe, &["--fod-network", "isolated", "--pasta-path", "/does/not/exist"]);
    assert!(ran.failed(1).contains("'fod-network = isolated'"), "{}", ran.stderr);
    let quiet = kiln.build(&recipe, &["--fod-network", "host"]);
    assert!(!quiet.stderr.contains("network"), "{}", quiet.stderr);
    kiln.forget(quiet.line());
    let ran = kiln.build(&recipe, &["--json", "--pasta-path", "/does/not/exist"]);
    assert!(ran.stderr.contains("is built with the network of this machine"), "{}", ran.stderr);
    assert!(ran.stdout.contains("abstract sockets"), "{}", ran.stdout);
}

#[test]
fn x3_the_root_holds_nothing_but_what_is_meant_to_be_there() {
    let kiln = kiln();
    let recipe =
        Recipe::default().derivation("other", "echo > $out").derivation("dep", "mkdir $out").derivation(
            "it",
            "found=$(ls -A /; stat -c %a /tmp /nix/store; ls -A /nix/store; ls /nix); echo \"$found\" > $out; : ${dep}",
        );
    kiln.write("kiln.toml", recipe.text());
    kiln.run(["build", "--no-link", ":other"]).line();
    let dep = kiln.run(["build", "--no-link", ":dep"]).line().to_owned();
    let text = kiln.text(kiln.run(["build", "--no-link", ":it"]).line());
    let mut expected = vec!["bin", "build", "dev", "etc", "lib", "nix", "proc", "tmp", "usr"];
    if Path::new("/lib64").exists() {
        expected.insert(5, "lib64");
    }
    let lines: Vec<&str> = text.lines().collect();
    let (root, rest) = lines.split_at(expected.len());
    assert_eq!(root, expected);
    assert_eq!(&rest[..2], ["1777", "1775"]);
    assert_eq!(&rest[2..], [dep.rsplit('/').next().unwrap(), "store"], "nothing of the other one");
}

#[test]
fn x3_inputs_cannot_be_written_to() {
    let kiln = kiln();
    let recipe = Recipe::default().derivation("dep", "mkdir $out; echo whole > $out/file").derivation(
        "it",
        "for command in 'touch ${dep}/new' 'chmod 777 ${dep}' 'chmod 666 ${dep}/file' 'rm -rf ${dep}' 'mv ${dep} /nix/store/x'; do\n\
         if $command 2>/dev/null; then echo $command worked > $out; fi; done; echo fine >> $out",
    );
    kiln.write("kiln.toml", recipe.text());
    assert_eq!(kiln.text(kiln.run(["build", "--no-link", ":it"]).line()), "fine\n");
    let dep = kiln.run(["build", "--no-link", ":dep"]).line().to_owned();
    assert_eq!(kiln.text(&format!("{dep}/file")), "whole\n");
    assert_eq!(fs::metadata(kiln.real(&dep)).unwrap().mode() & 0o7777, 0o555);
}

#[test]
fn x4_devices_are_the_harmless_ones() {
    let text = output(
        "{ ls /dev; ls /dev/shm | wc -l; stat -c %a /dev/ptmx /dev/pts/ptmx 2>/dev/null | tail -1; readlink /dev/fd /dev/stdin\n\
         ls /sys 2>/dev/null | wc -l; head -c 1 /dev/zero /dev/urandom /dev/random >/dev/null; echo > /dev/null; } > $out",
    );
    let mut expected = vec![
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    if text.contains("kvm\n") {
        expected.insert(2, "kvm");
    }
    let lines: Vec<&str> = text.lines().collect();
    let (devices, rest) = lines.split_at(expected.len());
    assert_eq!(devices, expected);
    assert_eq!(rest, ["0", "666", "/proc/self/fd", "/proc/self/fd/0", "0"]);
}

#[test]
fn x4_shared_memory_has_the_size_of_the_setting() {
    let kiln = kiln().option("sandbox-dev-shm-size", "1m");
    let script = "df --output=size /dev/shm | tail -1 | tr -d ' ' > $out; mount=$(grep ' /dev/shm ' /proc/mounts)\n\
                  ! head -c 2000000 /dev/zero > /dev/shm/file 2>/dev/null; echo \"$mount\" | grep -q nosuid";
    assert_eq!(kiln.text(kiln.build(&Recipe::script(script), &[]).line()), "1024\n");
    let kiln = kiln.option("sandbox-dev-shm-size", "much");
    let ran = kiln.build(&Recipe::script("echo other > $out"), &[]);
    assert!(ran.failed(1).contains("cannot mount a new file system at '/dev/shm'"), "{}", ran.stderr);
}

#[test]
fn x4_kvm_is_there_for_those_who_may_use_it() {
    let seen = |features: &str| {
        let kiln = kiln().option("system-features", features);
        kiln.text(
            kiln.build(&Recipe::script("test ! -e /dev/kvm || echo kvm > $out; echo >> $out"), &[]).line(),
        )
    };
    assert_eq!(seen("benchmark"), "\n");
    if Path::new("/dev/kvm").exists() {
        assert_eq!(seen("kvm"), "kvm\n\n");
    } else {
        kiln_testing::missing("/dev/kvm");
    }
}

#[test]
fn x5_fixed_outputs_know_how_names_are_resolved() {
    let kiln = kiln();
    let script = "cat /etc/nsswitch.conf; for file in resolv.conf services hosts; do test ! -e /etc/$file || echo $file; done; exit 1";
    let recipe = Recipe::script(script).fixed("", "flat");
    kiln.build(&recipe, &["--fod-network", "host"]).failed(1);
    let log = kiln.run(["log", &kiln.instantiate(&recipe)]);
    let host = ["resolv.conf", "services", "hosts"].into_iter();
    let host: String =
        host.filter(|file| Path::new("/etc").join(file).exists()).map(|file| format!("{file}\n")).collect();
    assert_eq!(log.stdout, format!("hosts: files dns\nservices: files\n{host}"));
}

#[test]
fn x6_paths_of_the_host_are_shown_where_they_are_wanted() {
    let kiln = kiln();
    let file = kiln.write("host-file", "host");
    let value = format!("/some/where={} /absent=/nowhere/to/be/found?", file.display());
    let kiln = kiln.option("extra-sandbox-paths", &value);
    let ran = kiln.build(&Recipe::script("cat /some/where > $out; test ! -e /absent"), &[]);
    assert_eq!(kiln.text(ran.line()), "host");
}

#[test]
fn x6_store_paths_bring_their_closure() {
    let kiln = kiln();
    let recipe =
        Recipe::default().derivation("below", "echo below > $out").derivation("it", "echo ${below} > $out");
    kiln.write("kiln.toml", recipe.text());
    let path = kiln.run(["build", "--no-link", ":it"]).line().to_owned();
    let kiln = kiln.option("extra-sandbox-paths", &format!("/tool={path}"));
    let ran = kiln.build(&Recipe::script("cat /tool > $out; cat $(cat /tool) >> $out"), &[]);
    let text = kiln.text(ran.line());
    assert!(text.ends_with("\nbelow\n"), "{text}");
    let kiln = kiln.option("extra-sandbox-paths", &path);
    let script =
        format!("cat {path} > $out; cat $(cat {path}) >> $out; touch {path}x {path} 2>/dev/null || true");
    let same = kiln.build(&Recipe::script(&script), &[]);
    assert_eq!(kiln.text(same.line()), text);
    assert_eq!(
        kiln.info(same.line()).unwrap()["references"].as_array().unwrap().len(),
        0,
        "they are no inputs"
    );
    let nowhere = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nowhere";
    let kiln = kiln.option("extra-sandbox-paths", &format!("/tool={nowhere}"));
    let ran = kiln.build(&Recipe::script("echo other > $out"), &[]);
    assert!(ran.failed(1).contains("while processing 'sandbox-paths': path '"), "{}", ran.stderr);
}

#[test]
fn x7_impure_paths_must_be_allowed() {
    let kiln = kiln();
    let recipe =
        Recipe::script("test -e /etc/passwd; echo > $out").with("env.__impureHostDeps = \"/etc/shadow\"");
    let ran = kiln.build(&recipe, &["--json"]);
    let derivation = kiln.instantiate(&recipe);
    let message = format!(
        "derivation '{derivation}' requested impure path '/etc/shadow', but it was not in allowed-impure-host-deps"
    );
    assert!(ran.failed(100).contains(&message), "{}", ran.stderr);
    assert!(ran.stdout.contains("InputRejected"), "{}", ran.stdout);
    let allowed = kiln.write("allowed/file", "text");
    let recipe = Recipe::script(&format!("cat {} > $out", allowed.display()))
        .with(&format!("env.__impureHostDeps = \"{}\"", allowed.display()));
    let option = kiln.directory().join("allowed").display().to_string();
    let ran = kiln.build(&recipe, &["--option", "allowed-impure-host-deps", &option]);
    assert_eq!(kiln.text(ran.line()), "text");
}

#[test]
fn x8_there_is_no_way_back_to_the_hosts_root() {
    let kiln = kiln();
    let marker = kiln.write("marker", "");
    let script = format!(
        "for root in / /proc/1/root /proc/self/root /proc/self/cwd/.. /../../..; do test ! -e $root{marker}; done\n\
         ! chroot / true 2>/dev/null; ! mount -t tmpfs x /tmp 2>/dev/null; ! umount /proc 2>/dev/null; echo > $out",
        marker = marker.display()
    );
    kiln.build(&Recipe::script(&script), &[]).line();
}

#[test]
fn x9_set_id_files_and_attributes_cannot_be_made() {
    let kiln = kiln();
    kiln.compile(
        "calls",
        r#"
        #include <errno.h>
        #include <fcntl.h>
        #include <stdio.h>
        #include <sys/stat.h>
        #include <sys/xattr.h>
        #include <unistd.h>
        static void tell(const char *name, int result) { printf("%s %d\n", name, result < 0 ? errno : 0); }
        int main(void) {
            int fd = open("file", O_CREAT | O_RDWR, 0600);
            tell("chmod", chmod("file", 04755));
            tell("fchmod", fchmod(fd, 02755));
            tell("fchmodat", fchmodat(AT_FDCWD, "file", 04755, 0));
            tell("open", open("new", O_CREAT | O_RDWR, 04755));
            tell("mknod", mknod("node", S_IFREG | 04755, 0));
            tell("setxattr", setxattr("file", "user.x", "y", 1, 0));
            tell("plain", chmod("file", 0755));
            return 0;
        }"#,
    );
    let recipe = Recipe::script("${source.calls} > $out").with("[source.calls]\npath = \"calls\"");
    assert_eq!(
        kiln.text(kiln.build(&recipe, &[]).line()),
        "chmod 1\nfchmod 1\nfchmodat 1\nopen 1\nmknod 1\nsetxattr 95\nplain 0\n"
    );
}

#[test]
fn x10_other_processes_and_builds_are_out_of_sight() {
    let kiln = kiln();
    let script = "touch ready; n=0; while ! test -e go; do sleep 0.05; done\n\
                  { ls /proc | grep -c '^[0-9]'; ls / | grep -c build; ls -A /build | wc -l; } > $out";
    let recipe = Recipe::default().derivation("one", script).derivation("two", script);
    let child = kiln.start_build(&recipe, &["-j2"]);
    let builds = ["one", "two"]
        .map(|name| kiln.root().join(format!("nix/var/nix/builds/nix-build-{name}.drv-0/build")));
    builds.iter().for_each(|build| kiln.wait_for(&build.join("ready")));
    let chroots = fs::read_dir(kiln.root().join("nix/store")).unwrap().map(|entry| entry.unwrap());
    let chroots: Vec<_> =
        chroots.filter(|entry| entry.file_name().to_str().unwrap().ends_with(".chroot")).collect();
    assert_eq!(chroots.len(), 2);
    for chroot in chroots {
        assert_eq!(chroot.metadata().unwrap().mode() & 0o7777, 0o700);
    }
    builds.iter().for_each(|build| fs::write(build.join("go"), "").unwrap());
    for path in Ran::from(child).lines() {
        // The shell, its subshell for the braces or not, ls and grep; its own two files.
        let text = kiln.text(path);
        let lines: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!((2..=4).contains(&lines[0]), "{text}");
        assert_eq!(&lines[1..], [1, 2], "{text}");
    }
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x11_files_that_builders_read_are_the_same_everywhere() {
    let text = output("cat /etc/passwd /etc/group /etc/hosts > $out; ls /etc >> $out");
    let expected = "root:x:0:0:Nix build user:/build:/noshell\n\
        nixbld:x:1000:100:Nix build user:/build:/noshell\n\
        nobody:x:65534:65534:Nobody:/:/noshell\n\
        root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n\
        127.0.0.1 localhost\n::1 localhost\n";
    let listing = text.strip_prefix(expected).unwrap_or_else(|| panic!("{text}"));
    let expected: Vec<&str> = ["alternatives", "group", "hosts", "passwd"]
        .into_iter()
        .filter(|name| *name != "alternatives" || Path::new("/etc/alternatives").exists())
        .collect();
    assert_eq!(listing.lines().collect::<Vec<_>>(), expected);
}

/// There `/` is no mount point, so that nothing could be cut off, and the kernel refuses user namespaces.
#[test]
fn x2_a_plain_chroot_is_no_obstacle_for_root() {
    if !rustix::process::geteuid().is_root() {
        needs_root("enter a chroot");
        return;
    }
    let kiln = kiln();
    let root = kiln.directory().join("system");
    for directory in ["usr", "dev", "proc", "tmp", "etc"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        match fs::read_link(Path::new("/").join(name)) {
            Ok(target) => std::os::unix::fs::symlink(target, root.join(name)).unwrap(),
            Err(_) => fs::create_dir(root.join(name)).unwrap(),
        }
    }
    fs::write(root.join("kiln"), "").unwrap();
    let recipe = Recipe::script("echo /* > $out; test ! -e /proc/1/root/outside; test ! -e /../outside");
    fs::write(root.join("kiln.toml"), recipe.text()).unwrap();
    fs::write(kiln.directory().join("outside"), "").unwrap();
    let script = "cd \"$1\"; for d in bin lib lib64; do [ -L $d ] || mount --bind /$d $d; done
        for d in usr dev proc; do mount --rbind /$d $d; done; mount --bind \"$2\" kiln
        exec chroot . /kiln build --json --no-link --store /store --option build-users-group '' --option substituters '' \
        --option sandbox-paths '/bin /usr /lib /lib64?' /kiln.toml";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]).arg(&root).arg(KILN);
    let there = Ran::from(command.env("HOME", "/tmp").env("TMPDIR", "/tmp").output().unwrap());
    let here = kiln.option("build-users-group", "").build(&recipe, &["--json"]);
    let result = |ran: &Ran| -> serde_json::Value {
        let results: serde_json::Value = serde_json::from_str(&ran.stdout).expect(&ran.stderr);
        results[0].clone()
    };
    assert_eq!(there.code, Some(0), "{}", there.stderr);
    assert_eq!(result(&there)["isolation"], result(&here)["isolation"]);
    assert_eq!(result(&there)["outputs"], result(&here)["outputs"]);
}
