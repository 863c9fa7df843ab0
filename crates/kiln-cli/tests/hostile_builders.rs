//! Builders that mean harm, and what becomes of it: the right end, nothing registered, nothing left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_testing::{Kiln, Ran, Recipe};

fn kiln() -> Kiln {
    Kiln::as_used(env!("CARGO_BIN_EXE_kiln"))
}

/// Nothing of `it` is in the store, and nothing of its build anywhere.
#[track_caller]
fn left_nothing(kiln: &Kiln) {
    let names = fs::read_dir(kiln.root().join("nix/store")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with("-it")).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Builds a script that must be refused.
#[track_caller]
fn refused(script: &str, messages: &[&str]) {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script(script), &["--json"]);
    let stderr = ran.failed(1);
    assert!(messages.iter().any(|message| stderr.contains(message)), "{stderr}");
    assert!(ran.stdout.contains("OutputRejected"), "{}", ran.stdout);
    left_nothing(&kiln);
}

/// A build whose source `program` is a C program.
fn program(kiln: &Kiln, source: &str, script: &str) -> Recipe {
    kiln.compile("program", source);
    Recipe::script(script).with("[source.program]\npath = \"program\"")
}

#[test]
fn pipes_and_sockets_are_no_outputs() {
    refused("mkfifo $out", &["has an unsupported type"]);
    refused("mkdir $out; mkfifo $out/fifo", &["has an unsupported type"]);
    let kiln = kiln();
    let source = r#"
        #include <stdlib.h>
        #include <string.h>
        #include <sys/socket.h>
        #include <sys/un.h>
        #include <unistd.h>
        int main(void) {
            struct sockaddr_un address = {AF_UNIX};
            chdir("/nix/store");
            strcpy(address.sun_path, strrchr(getenv("out"), '/') + 1);
            return bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address, sizeof address);
        }"#;
    let ran = kiln.build(&program(&kiln, source, "umask 022; ${source.program}; test -S $out"), &[]);
    assert!(ran.failed(1).contains("has an unsupported type"), "{}", ran.stderr);
    left_nothing(&kiln);
}

#[test]
fn devices_cannot_be_made() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("mknod $out c 1 3"), &[]);
    ran.failed(100);
    left_nothing(&kiln);
}

#[test]
fn messages_name_paths_as_the_builder_knows_them() {
    let kiln = kiln();
    let ran = kiln.build(&Recipe::script("mkdir $out; mkfifo $out/fifo"), &[]);
    let stderr = ran.failed(1);
    assert!(stderr.contains("'/nix/store/") && stderr.contains("-it/fifo'"), "{stderr}");
    assert!(!stderr.contains(".chroot"), "{stderr}");
}

#[test]
fn a_set_user_id_file_is_not_to_be_had() {
    let kiln = kiln();
    let script = "mkdir $out; cp /bin/true $out/program; chmod 4755 $out/program && exit 1\n\
                  (umask 0; cp /bin/true $out/other; chmod 755 $out/other); chmod u+s $out && exit 1; true";
    let ran = kiln.build(&Recipe::script(script), &[]);
    let program = kiln.real(ran.line()).join("program");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(program).unwrap());
    assert_eq!(mode & 0o7777, 0o555);
}

#[test]
fn world_writable_outputs_and_those_of_the_group_are_refused() {
    for mode in ["777", "775", "757"] {
        refused(
            &format!("mkdir $out; echo x > $out/file; chmod {mode} $out"),
            &["suspicious ownership or permission on '/nix/store/"],
        );
    }
}

#[test]
fn a_hard_link_to_a_file_outside_of_the_outputs_is_refused_or_copied() {
    // A file that stays reachable for the builder's own: in the build directory, on another file system or not.
    let kiln = kiln();
    let ran = kiln.build(
        &Recipe::script("mkdir $out; echo x > /tmp/outside; ln /tmp/outside $out/link || exit 7"),
        &[],
    );
    match ran.code {
        // /tmp is a mount of its own, across which there are no links.
        Some(100) => assert!(ran.stderr.contains("exit code 7"), "{}", ran.stderr),
        code => panic!("{code:?}: {}", ran.stderr),
    }
    let ran = kiln.build(
        &Recipe::script("echo x > $dev.other; ln $dev.other $out").with("env.dev = \"/nix/store/x\""),
        &[],
    );
    if ran.code == Some(0) {
        let status = fs::metadata(kiln.real(ran.line())).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&status), 1, "a copy");
    } else {
        assert!(ran.failed(1).contains("hard links outside"), "{}", ran.stderr);
        left_nothing(&kiln);
    }
}

#[test]
fn a_link_as_output_is_not_followed() {
    let kiln = kiln();
    let file = kiln.write("precious", "precious");
    let before = fs::metadata(&file).unwrap();
    let ran = kiln.build(&Recipe::script(&format!("ln -s {} $out", file.display())), &[]);
    assert_eq!(fs::read_link(kiln.real(ran.line())).unwrap(), file);
    let after = fs::metadata(&file).unwrap();
    assert_eq!(before.permissions(), after.permissions());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
fn processes_in_the_background_do_not_outlive_the_build() {
    let kiln = kiln();
    let source = r#"
        #include <signal.h>
        #include <unistd.h>
        int main(void) {
            for (int signal = 1; signal < 32; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, 0);
            for (int generation = 0; generation < 3; generation++) {
                if (fork()) _exit(0);
                setsid();
            }
            for (;;) pause();
        }"#;
    let ran = kiln.build(&program(&kiln, source, "${source.program} & wait; echo > $out"), &[]);
    ran.line();
    assert_eq!(kiln.remains(), [""; 0]);
    let ran = kiln.build(&program(&kiln, source, "${source.program} & wait; exit 1"), &[]);
    ran.failed(100);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn a_fork_bomb_ends_with_its_time() {
    let kiln = kiln();
    let source = r#"
        #include <unistd.h>
        int main(void) {
            // Sixty at a time, as fast as they can be made.
            for (int n = 0; n < 60; n++)
                if (fork() == 0) for (;;) { pid_t child = vfork(); if (child == 0) _exit(0); usleep(20000); }
            for (;;) pause();
        }"#;
    let ran = kiln.build(&program(&kiln, source, "exec ${source.program}"), &["--timeout", "1"]);
    ran.failed(101);
    left_nothing(&kiln);
}

/// More processes than this a builder cannot make, and it cannot raise the limit.
#[test]
fn processes_are_limited() {
    let kiln = kiln();
    let script = "sed -n 's/^Max processes *//p' /proc/self/limits >$out; ulimit -p 1000000 && exit 1; true";
    let text = kiln.text(kiln.build(&Recipe::script(script), &[]).line());
    let limits: Vec<u64> = text.split_whitespace().take(2).map(|limit| limit.parse().unwrap()).collect();
    assert!(limits.len() == 2 && limits.iter().all(|limit| *limit <= 16384), "{text}");
}

/// A builder that forks as fast as it can, until it is not allowed to, is ended by its time, with all that it made.
#[test]
fn a_fork_bomb_meets_its_limit() {
    let kiln = kiln();
    let source = r#"
        #include <errno.h>
        #include <stdio.h>
        #include <sys/resource.h>
        #include <unistd.h>
        int main(void) {
            // As the limit that every builder has, but so low that a machine for tests can afford it.
            setrlimit(RLIMIT_NPROC, &(struct rlimit){200, 200});
            for (;;) {
                pid_t child = fork();
                if (child < 0) { if (errno == EAGAIN) puts("no more"); fflush(stdout); for (;;) pause(); }
            }
        }"#;
    let ran = kiln.build(&program(&kiln, source, "exec ${source.program}"), &["--timeout", "2", "-L"]);
    assert!(ran.failed(101).contains("no more"), "{}", ran.stderr);
    left_nothing(&kiln);
}

#[test]
fn nothing_is_written_to_an_output_after_its_registration() {
    let kiln = kiln();
    // The writer holds the file open and would go on for ever.
    let script =
        "mkdir $out; (exec >$out/file; while :; do echo more; done) & while ! test -s $out/file; do :; done";
    let path = kiln.build(&Recipe::script(script), &[]).line().to_owned();
    let size = || fs::metadata(kiln.real(&path).join("file")).unwrap().len();
    let before = size();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(size(), before);
    assert_eq!(kiln.run(["store", "verify", "--check-contents"]).code, Some(0));
}

/// The most memory that a run had, in KiB, and its end.
fn peak_memory(kiln: &Kiln, recipe: &str, arguments: &[&str]) -> (u64, Ran) {
    kiln.write("kiln.toml", recipe);
    let command = kiln.command(["build", "--no-link"].iter().chain(arguments));
    let mut child = Command::new(command.get_program());
    child.args(command.get_args()).current_dir(kiln.directory()).env_clear();
    child.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(number) = line.and_then(|line| line.split_whitespace().next()) else { break };
            peak = peak.max(number.parse().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        peak
    });
    let ran = Ran::from(child);
    (watcher.join().unwrap(), ran)
}

#[test]
fn a_loud_log_costs_no_memory() {
    let kiln = kiln().option("compress-build-log", "false");
    let script =
        "yes 'some line of a log that says very little but very often' | head -c 50000000; echo > $out";
    let (peak, ran) = peak_memory(&kiln, &Recipe::script(script), &[]);
    ran.line();
    assert!(peak > 1_000 && peak < 150_000, "{peak} KiB");
    let name = kiln.info(ran.line()).unwrap()["deriver"].as_str().unwrap()["/nix/store/".len()..].to_owned();
    let log = kiln.root().join("nix/var/log/nix/drvs").join(&name[..2]).join(&name[2..]);
    assert_eq!(fs::metadata(log).unwrap().len(), 50_000_000);
}

#[test]
fn an_endless_line_costs_no_memory() {
    let kiln = kiln().option("keep-build-log", "false");
    let script = "head -c 50000000 /dev/zero | tr '\\0' x; exit 1";
    let (peak, ran) = peak_memory(&kiln, &Recipe::script(script), &[]);
    let stderr = ran.failed(100);
    assert!(peak < 150_000, "{peak} KiB");
    assert!(stderr.contains("[line cut]") && stderr.len() < 100_000, "{}", stderr.len());
    left_nothing(&kiln);
}

#[test]
fn a_log_without_end_is_ended_by_its_limit() {
    let kiln = kiln();
    let start = Instant::now();
    let ran = kiln
        .build(&Recipe::script("trap '' TERM HUP PIPE; yes"), &["--option", "max-build-log-size", "100000"]);
    assert!(ran.failed(1).contains("killed after writing more than 100000 bytes"), "{}", ran.stderr);
    assert!(start.elapsed() < Duration::from_secs(60));
    left_nothing(&kiln);
}

#[test]
fn a_tree_of_great_depth_is_refused_and_removed() {
    let kiln = kiln();
    let source = r#"
        #include <sys/stat.h>
        #include <unistd.h>
        int main(int count, char **arguments) {
            chdir(arguments[1]);
            for (int n = 0; n < 2500; n++) { mkdir("d", 0755); if (chdir("d")) return 1; }
            return 0;
        }"#;
    let ran = kiln.build(&program(&kiln, source, "mkdir $out; ${source.program} $out"), &["--json"]);
    assert!(
        ran.failed(1).contains("exceeds the maximum depth"),
        "{}",
        &ran.stderr[..2000.min(ran.stderr.len())]
    );
    assert!(ran.stdout.contains("OutputRejected"));
    left_nothing(&kiln);
    let ran = kiln.build(&program(&kiln, source, "mkdir x; ${source.program} x; exit 3"), &[]);
    ran.failed(100);
    left_nothing(&kiln);
}

#[test]
fn a_directory_that_its_owner_cannot_enter_is_removed() {
    let kiln = kiln();
    let script =
        "mkdir -p x/y $out/z; touch x/y/file $out/z/file; chmod 0 x/y x $out/z $out /tmp 2>/dev/null; exit 1";
    kiln.build(&Recipe::script(script), &[]).failed(100);
    left_nothing(&kiln);
}

#[test]
fn lying_derivations_are_refused_with_both_paths() {
    let kiln = kiln();
    let recipe = Recipe::script("echo > $out");
    let path = kiln.instantiate(&recipe);
    let shown = kiln.json(["derivation", "show", "--json-version", "2", &path]);
    let mut derivation = shown[&path].clone();
    let right = derivation["outputs"]["out"]["path"].as_str().unwrap().to_owned();
    let wrong = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-it";
    derivation["outputs"]["out"]["path"] = wrong.into();
    derivation["env"]["out"] = wrong.into();
    let ran = kiln.run_reading(["derivation", "add", "--json-version", "2"], derivation.to_string());
    let stderr = ran.failed(1);
    assert!(stderr.contains(wrong) && stderr.contains(&right), "{stderr}");
}
