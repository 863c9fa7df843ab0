//! What a builder must not be able to do, tried for real.

use std::fs;

use kiln_sandbox::*;

use crate::support::*;

#[track_caller]
fn assert_lines(outcome: &Outcome, lines: &[&str]) {
    for line in lines {
        outcome.assert_line(line);
    }
}

#[test]
fn x9_no_way_to_make_a_set_id_file() {
    let outcome = run_words(&["set-id=file"]);
    outcome.assert_success();
    assert_lines(
        &outcome,
        &[
            "chmod: EPERM",
            "chmod sgid: EPERM",
            "chmod high bits: EPERM",
            "fchmod: EPERM",
            "fchmodat: EPERM",
            "fchmodat2: EPERM",
            "fchmodat2 high bits: EPERM",
            "open: EPERM",
            "open tmpfile: EPERM",
            "openat: EPERM",
            "creat: EPERM",
            "mknod: EPERM",
            "mknodat: EPERM",
            "openat2: ENOSYS",
            "plain chmod: ok",
            "sticky chmod: ok",
            "mode 700",
        ],
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn x9_no_way_by_the_other_abis_of_the_machine() {
    let outcome = run_words(&["set-id=file"]);
    if outcome.log.contains("int80 getpid: ENOSYS") {
        eprintln!("NOT TESTED, because this kernel runs no 32-bit programs: system calls by int 0x80");
        return;
    }
    assert_lines(
        &outcome,
        &[
            "int80 chmod: EPERM",
            "int80 fchmodat2: EPERM",
            "int80 vsock: EAFNOSUPPORT",
            "int80 getpid: ok",
            "x32 getpid: ENOSYS",
        ],
    );
}

#[test]
fn x9_what_goes_round_the_filter_or_into_the_kernel_is_not_there() {
    let outcome = run_words(&["denied=/build"]);
    outcome.assert_success();
    assert_lines(
        &outcome,
        &[
            "setxattr: EOPNOTSUPP",
            "getxattr: EOPNOTSUPP",
            "listxattr: EOPNOTSUPP",
            "setxattrat: EOPNOTSUPP",
            "io_uring_setup: ENOSYS",
            "keyctl: ENOSYS",
            "bpf: ENOSYS",
            "userfaultfd: ENOSYS",
            "perf_event_open: ENOSYS",
            "TIOCSTI: EPERM",
            "TIOCSTI high bits: EPERM",
            "vsock: EAFNOSUPPORT",
            "alg: EAFNOSUPPORT",
            "netlink audit: EPROTONOSUPPORT",
            "unix: ok",
            "inet: ok",
            "inet6: ok",
            "route: ok",
        ],
    );
}

#[test]
fn builders_have_no_power_over_their_world() {
    let outcome = run_words(&["denied=/build"]);
    assert_lines(
        &outcome,
        &["mknod device: EPERM", "mount: EPERM", "umount: EPERM", "sethostname: EPERM", "chroot: EPERM"],
    );
    assert!(!outcome.log.contains("write sysrq: ok") && !outcome.log.contains("read kcore: ok"));
}

#[test]
fn capabilities_are_gone_for_good() {
    let log = run_words(&["cat=/proc/self/status"]).log;
    let field = |name: &str| {
        let line = log.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    // Ignored signals would be passed on to every program of the build.
    assert_eq!(field("SigIgn:"), "0000000000000000");
    assert_eq!(field("SigBlk:"), "0000000000000000");
}

#[test]
fn one_user_and_one_group_are_mapped() {
    let world = World::new();
    let outcome =
        run(&world.plan(&["cat=/proc/self/uid_map", "cat=/proc/self/gid_map", "cat=/proc/self/setgroups"]));
    let numbers: Vec<_> = outcome.log.split_whitespace().collect();
    assert_eq!(numbers.len(), 7, "{}", outcome.log);
    assert_eq!((numbers[0], numbers[2]), ("1000", "1"));
    assert_eq!((numbers[3], numbers[5]), ("100", "1"));
    assert_eq!(numbers[6], "deny");
}

#[test]
fn the_filter_can_be_switched_off_and_the_report_says_so() {
    let world = World::new();
    let mut plan = world.plan(&["denied=/build"]);
    plan.system_calls = SystemCallFilter::Off;
    let outcome = run(&plan);
    assert!(!outcome.started.as_ref().unwrap().system_calls);
    assert!(
        !outcome.log.contains("setxattr: EOPNOTSUPP") || !outcome.log.contains("keyctl: ENOSYS"),
        "{}",
        outcome.log
    );
}

/// What the host's network could be used for: nothing of the descriptors of the engine, the launcher, other builds.
#[test]
fn no_descriptor_leaks_from_a_busy_launcher() {
    let launcher = start_launcher();
    let worlds: Vec<_> = (0..4).map(|_| World::new()).collect();
    let busy: Vec<_> =
        worlds.iter().map(|world| launcher.launch(&world.plan(&["sleep=300"])).unwrap()).collect();
    let world = World::new();
    let outcome = finish(launcher.launch(&world.plan(&["descriptors"])).unwrap());
    outcome.assert_line("descriptors: 0 1 2");
    for builder in busy {
        finish(builder).assert_success();
    }
}

#[test]
fn ordinary_programs_of_the_host_work() {
    let world = World::new();
    let mut plan = world.plan(&[]);
    plan.builder = "/bin/bash".into();
    let script = r#"
        set -e
        echo 'int main(void) { return 42; }' > a.c
        echo 'all: a' > Makefile
        gcc -o a a.c && { ./a || test $? = 42; }
        (umask 077; mkdir d; cp -a a d/b; tar cf d.tar d; mkdir e; tar xf d.tar -C e; chmod -R u+w,go-rwx e)
        mkfifo p; (echo through > p &) ; read line < p; echo "$line"
        echo pipe | cat | tr a-z A-Z | sed s/PIPE/done/
        python3 -c 'import threading, socket, subprocess, os
t = threading.Thread(target=lambda: None); t.start(); t.join()
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
subprocess.check_call(["true"]); os.getrandom(4)' 2>/dev/null || ! type python3
        perl -e 'fork // die; wait'
        (ulimit -c unlimited)
        echo > /dev/stderr
        unshare -Ur true
        echo survived
    "#;
    plan.arguments = vec!["-c".into(), script.into()];
    plan.environment = vec![("PATH".into(), "/usr/bin:/bin".into()), ("TMPDIR".into(), "/build".into())];
    for path in ["/bin", "/usr", "/lib", "/lib64"] {
        let path = SandboxPath { target: path.into(), source: path.into(), optional: true, read_only: true };
        sandbox_of(&mut plan).paths.push(path);
    }
    let outcome = run(&plan);
    outcome.assert_success();
    assert_lines(&outcome, &["through", "done", "survived"]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn programs_of_the_smaller_abi_are_filtered_too() {
    let world = World::new();
    let program = world.path("raw32");
    let source = world.path("raw32.s");
    fs::write(
        &source,
        // chmod("f", 04755) by a real 32-bit program; the exit code is the error number.
        ".globl _start\n_start: mov $8, %eax; mov $name, %ebx; mov $0644, %ecx; int $0x80\n\
         mov $15, %eax; mov $name, %ebx; mov $04755, %ecx; int $0x80\n\
         neg %eax; mov %eax, %ebx; mov $1, %eax; int $0x80\n.data\nname: .asciz \"f\"\n",
    )
    .unwrap();
    let run_tool = |tool: &str, arguments: &[&std::ffi::OsStr]| {
        std::process::Command::new(tool).args(arguments).status().is_ok_and(|status| status.success())
    };
    let object = world.path("raw32.o");
    let assembled = run_tool("as", &["--32".as_ref(), "-o".as_ref(), object.as_ref(), source.as_ref()])
        && run_tool(
            "ld",
            &["-m".as_ref(), "elf_i386".as_ref(), "-o".as_ref(), program.as_ref(), object.as_ref()],
        );
    assert!(assembled, "the tests need an assembler for i386");
    let mut plan = world.plan(&[]);
    plan.builder = "/nix/store/raw32".into();
    sandbox_of(&mut plan).store.inputs.push(Input { name: "raw32".into(), source: program.into() });
    let outcome = run(&plan);
    assert_eq!(outcome.status(), ExitStatus::Code(1), "EPERM is 1: {outcome:?}");
}
