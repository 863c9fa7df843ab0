//! What a builder sees.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kiln_sandbox::*;

use crate::support::*;

#[test]
fn b1_b10_environment_arguments_and_directory_are_those_of_the_plan() {
    let outcome = run_words(&["env", "argv0", "cwd"]);
    outcome.assert_success();
    assert_eq!(outcome.log, "B=2\nA=1\nargv0 builder\ncwd /build\n");
}

#[test]
fn b9_x2_process_state_and_ids() {
    let outcome = run_words(&["identity"]);
    outcome.assert_success();
    // An ordinary user can't drop its groups.
    let groups = if is_root() { 0 } else { rustix::process::getgroups().unwrap().len() };
    outcome.assert_line(&format!("uid 1000 gid 100 groups {groups} pid 1"));
    outcome.assert_line("host localhost domain (none) machine x86_64");
    outcome.assert_line("umask 022 core 0 personality 40000");
    outcome.assert_line("session 1 group 1 tty 1 controlling -1");
}

#[test]
fn b9_addresses_are_not_random() {
    let stack = || run_words(&["stack"]).log;
    assert_eq!(stack(), stack());
}

#[test]
fn b9_personality_can_be_an_older_and_smaller_machine() {
    let world = World::new();
    let mut plan = world.plan(&["identity"]);
    plan.personality = PersonalityPlan { linux32: true, linux26: true };
    let outcome = run(&plan);
    outcome.assert_line("host localhost domain (none) machine i686");
    outcome.assert_line("umask 022 core 0 personality 60008");
}

#[test]
fn b9_open_files_can_be_limited_and_core_dumps_only_softly() {
    let world = World::new();
    let mut plan = world.plan(&["cat=/proc/self/limits"]);
    plan.open_files = Some(64);
    let log = run(&plan).log;
    let limit = |name: &str| {
        let line = log.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max open files"), "64");
    assert_eq!(limit("Max core file size"), "0");
}

#[test]
fn b8_b9_three_descriptors_of_which_two_are_a_raw_terminal() {
    let world = World::new();
    let outcome = run(&world.plan(&["descriptors"]));
    outcome.assert_success();
    outcome.assert_line("descriptors: 0 1 2");
    outcome.assert_line("stdin /dev/null");
    outcome.assert_line("raw 1 mode 600 owner 1000");
}

#[test]
fn x3_x10_the_root_has_nothing_of_the_host() {
    let outcome = run_words(&[
        "ls=/",
        "ls=/etc",
        "ls=/nix",
        "ls=/tmp",
        "ls=/build",
        "stat=/home",
        "stat=/sys",
        "stat=/usr",
    ]);
    outcome.assert_success();
    outcome.assert_line("ls /: build dev etc nix proc tmp");
    outcome.assert_line("ls /etc: group hosts passwd");
    outcome.assert_line("ls /nix: store");
    outcome.assert_line("ls /tmp:");
    outcome.assert_line("ls /build:");
    assert_eq!(outcome.log.matches("stat: ENOENT").count(), 3);
}

#[test]
fn x3_only_the_input_closure_is_in_the_store() {
    let outcome =
        run_words(&["ls=/nix/store", "stat=/nix/store/undeclared", "readlink=/nix/store/input-link"]);
    outcome.assert_line("ls /nix/store: builder input-directory input-file input-link");
    outcome.assert_line("stat: ENOENT");
    outcome.assert_line("link input-file");
}

#[test]
fn x3_inputs_can_be_read_and_not_written() {
    let world = World::new();
    let outcome = run(&world.plan(&[
        "cat=/nix/store/input-directory/hello",
        "cat=/nix/store/input-link",
        "write=/nix/store/input-file",
        "write=/nix/store/input-directory/new",
        "write=/nix/store/input-directory/sub/new",
        "write=/nix/store/input-directory/hello",
    ]));
    outcome.assert_success();
    assert!(outcome.log.starts_with("hello\nfile\n"), "{}", outcome.log);
    assert_eq!(outcome.log.matches("write: EROFS").count(), 4, "{}", outcome.log);
    assert_eq!(fs::read_to_string(world.path("store/input-file")).unwrap(), "file\n");
}

#[test]
fn x3_outputs_appear_in_the_chroot_directory_owned_by_the_builder() {
    let world = World::new();
    run(&world.plan(&["write=/nix/store/out", "write=/tmp/scratch", "write=/build/file"])).assert_success();
    let output = fs::metadata(world.path("x.drv.chroot/store/out")).unwrap();
    assert_eq!(output.uid(), world.uid);
    assert_eq!(output.gid(), world.gid);
    assert_eq!(output.mode() & 0o7777, 0o644);
    assert!(world.path("x.drv.chroot/tmp/scratch").exists());
    assert!(world.path("builds/x/build/file").exists());
}

#[test]
fn x3_the_builder_cannot_write_anywhere_else() {
    let outcome = run_words(&[
        "write=/new",
        "write=/etc/new",
        "write=/etc/passwd",
        "write=/nix/new",
        "write=/dev/new",
        "write=/proc/sys/kernel/hostname",
    ]);
    assert_eq!(outcome.log.matches("write: ok").count(), 0, "{}", outcome.log);
    assert_eq!(outcome.log.matches("write: ").count(), 6, "{}", outcome.log);
}

#[test]
fn x4_devices() {
    let outcome = run_words(&[
        "ls=/dev",
        "ls=/dev/pts",
        "readlink=/dev/fd",
        "readlink=/dev/stderr",
        "readlink=/dev/ptmx",
        "stat=/dev/shm",
        "write=/dev/null",
        "write=/dev/shm/x",
    ]);
    outcome.assert_success();
    outcome.assert_line("ls /dev: fd full null ptmx pts random shm stderr stdin stdout tty urandom zero");
    outcome.assert_line("ls /dev/pts: ptmx");
    outcome.assert_line("link /proc/self/fd");
    outcome.assert_line("link /proc/self/fd/2");
    outcome.assert_line("link /dev/pts/ptmx");
    assert!(outcome.log.contains("stat: mode 41777"), "{}", outcome.log);
    assert_eq!(outcome.log.matches("write: ok").count(), 2, "{}", outcome.log);
}

#[test]
fn x4_shared_memory_has_the_size_of_the_setting() {
    let world = World::new();
    let mut plan = world.plan(&["cat=/proc/mounts"]);
    sandbox_of(&mut plan).shared_memory_size = "64k".into();
    let log = run(&plan).log;
    let line = log.lines().find(|line| line.contains(" /dev/shm ")).unwrap();
    assert!(line.contains("size=64k") && line.contains("nosuid") && line.contains("nodev"), "{line}");
}

#[test]
fn x11_files_are_byte_exact() {
    let outcome = run_words(&["cat=/etc/passwd", "cat=/etc/group", "cat=/etc/hosts"]);
    assert_eq!(
        outcome.log,
        "root:x:0:0:Nix build user:/build:/noshell\nnixbld:x:1000:100:Nix build user:/build:/noshell\n\
         nobody:x:65534:65534:Nobody:/:/noshell\nroot:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n127.0.0.1 localhost\n\
         ::1 localhost\n"
    );
}

#[test]
fn x2_the_network_is_a_loopback_interface() {
    let outcome = run_words(&["loopback"]);
    outcome.assert_success();
    outcome.assert_line("interfaces: lo");
    outcome.assert_line("loopback: ok");
    outcome.assert_line("outside: ENETUNREACH");
}

#[test]
fn x5_the_hosts_network_without_its_abstract_sockets() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("kiln-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let world = World::new();
    let mut plan = world.plan(&[&format!("abstract={name}"), "cat=/etc/nsswitch.conf", "ls=/etc"]);
    sandbox_of(&mut plan).network = Network::Host;
    let outcome = run(&plan);
    outcome.assert_success();
    let isolation = outcome.started.as_ref().unwrap();
    assert!(!isolation.network);
    if isolation.abstract_sockets {
        outcome.assert_line("abstract: EPERM");
    } else {
        eprintln!("NOT TESTED, because this kernel has no landlock scopes: abstract sockets of the host");
    }
    assert!(outcome.log.contains("hosts: files dns\nservices: files\n"));
    let etc = outcome.log.lines().last().unwrap();
    for (path, name) in
        [("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf"), ("/etc/services", "services")]
    {
        assert_eq!(etc.contains(name), std::path::Path::new(path).exists(), "{etc}");
    }
}

#[test]
fn x2_a_private_network_has_no_abstract_sockets_of_the_host() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("kiln-test-private-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    run_words(&[&format!("abstract={name}")]).assert_line("abstract: ECONNREFUSED");
}

#[test]
fn x2_only_the_builds_processes_are_in_proc() {
    let outcome = run_words(&["ls=/proc"]);
    let line = outcome.log.lines().next().unwrap();
    let processes: Vec<_> =
        line.split(' ').filter(|word| word.bytes().all(|byte| byte.is_ascii_digit())).collect();
    assert_eq!(processes, ["1"], "{line}");
}

#[test]
fn proc_tells_nothing_about_the_machine() {
    let outcome =
        run_words(&["cat=/proc/keys", "cat=/proc/timer_list", "ls=/proc/acpi", "write=/proc/sysrq-trigger"]);
    for line in outcome.log.lines() {
        let harmless = ["EACCES", "EROFS", "ENOENT", "ls /proc/acpi:"].iter().any(|end| line.ends_with(end));
        assert!(harmless, "{line}");
    }
}

#[test]
fn without_masks_proc_is_plain() {
    let world = World::new();
    let mut plan = world.plan(&["cat=/proc/mounts"]);
    let masks = |log: &str| log.lines().filter(|line| line.contains(" /proc/")).count();
    assert!(masks(&run(&plan).log) > 3);
    sandbox_of(&mut plan).mask_proc = false;
    // The same directories again: mount points are left over, so they go first.
    let world = World::new();
    let mut plan = world.plan(&["cat=/proc/mounts"]);
    sandbox_of(&mut plan).mask_proc = false;
    assert_eq!(masks(&run(&plan).log), 0);
}

#[test]
fn x8_mounts_of_the_sandbox_cannot_be_taken_off_in_a_nested_namespace() {
    let outcome = run_words(&["nested"]);
    outcome.assert_success();
    outcome.assert_line("unshare: ok");
    outcome.assert_line("unmount: EINVAL");
    outcome.assert_line("unmount store: EINVAL");
    outcome.assert_line("writable store: EPERM");
}

#[test]
fn the_isolation_is_reported_as_it_is() {
    let outcome = run_words(&[]);
    let isolation = outcome.started.unwrap();
    let expected = Isolation {
        files: true,
        processes: true,
        ipc: true,
        host_name: true,
        network: true,
        users: true,
        build_user: is_root(),
        system_calls: true,
        abstract_sockets: false,
        groups_dropped: is_root(),
        cgroup: false,
    };
    assert_eq!(isolation, expected);
}

#[test]
fn b3_b4_files_are_placed_for_the_builder() {
    let world = World::new();
    let mut plan =
        world.plan(&["cat=/build/.attrs.json", "stat=/build/.attrs.json", "write=/build/.attrs.json"]);
    plan.files.push(PlacedFile { name: ".attrs.json".into(), contents: "{}\n".into(), mode: 0o640 });
    plan.files.push(PlacedFile { name: b"\xff"[..].into(), contents: b"\0\xff"[..].into(), mode: 0o600 });
    let outcome = run(&plan);
    outcome.assert_success();
    outcome.assert_line("{}");
    outcome.assert_line("stat: mode 100640 uid 1000 gid 100");
    outcome.assert_line("write: ok");
    let bytes =
        fs::read(world.path("builds/x/build").join(ByteString::from(&b"\xff"[..]).as_path())).unwrap();
    assert_eq!(bytes, b"\0\xff");
}

#[test]
fn b11_a_builtin_runs_in_the_builders_place() {
    for sandboxed in [true, false] {
        let world = World::new();
        let mut plan = if sandboxed { world.plan(&[]) } else { world.unsandboxed(&[]) };
        plan.builder = "builtin:thing".into();
        plan.builtin = Some("input".into());
        let outcome = run(&plan);
        assert_eq!(outcome.status(), ExitStatus::Code(1));
        outcome.assert_line("A=1").assert_line("descriptors 3");
        outcome.assert_line("error: unsupported builtin 'builtin:thing' with 'input'");
        assert_eq!(outcome.started.as_ref().unwrap().files, sandboxed);
    }
}
