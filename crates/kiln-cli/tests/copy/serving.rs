//! `nix-store --serve` by Kiln, with real Nix as its client, and with clients that speak for themselves.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use kiln_testing::{Ran, SANDBOX_PATHS};

use crate::daemons::with_settings;
use crate::world::World;

const CLIENT_MAGIC: u64 = 0x390c_9deb;
const VERSION: u64 = 0x207;

/// The URL by which real Nix reaches Kiln on the other store with this name: with this host it needs no ssh.
fn remote(world: &World, name: &str) -> String {
    let link = world.place("nix-store");
    if !link.exists() {
        world.store.kiln_as("nix-store");
    }
    let program = world.store.write(
        &format!("serve-{name}"),
        format!(
            "#!/bin/sh\nexport NIX_REMOTE='{}' NIX_CONFIG=\"$NIX_CONFIG\nsandbox-paths = {}\n\"\nexec '{}' \"$@\"\n",
            world.other_store(name),
            SANDBOX_PATHS.replace("/lib64?", "/lib64").replace("/etc/alternatives?", ""),
            link.display()
        ),
    );
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("ssh://localhost?remote-program={}", program.display())
}

#[test]
fn real_nix_copies_to_kiln_and_from_it() {
    let Some(world) = World::new() else { return };
    let there = remote(&world, "other");
    world.nix(&["copy", "--to", &there, &world.top]);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("other", path));
    }
    let listed = world.nix(&["path-info", "--store", &there, "--recursive", &world.top]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, world.closure.iter().collect::<Vec<_>>());
    world.nix(&["store", "verify", "--no-trust", "--store", &world.other_store("other"), "--all"]);
    // Once more, where all is there.
    world.nix(&["copy", "--to", &there, &world.top]);

    let third = world.other_store("third");
    world.nix(&["copy", "--no-check-sigs", "--from", &there, "--to", &third, &world.top]);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("third", path));
    }
}

#[test]
fn nix_copy_closure_copies_to_kiln_and_from_it() {
    let Some(world) = World::new() else { return };
    let there = remote(&world, "other");
    let host = there.strip_prefix("ssh://").unwrap();
    world.store.nix().run("nix-copy-closure", ["--to", host, &world.top]);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("other", path));
    }
    world.store.nix().run("nix-copy-closure", ["--from", host, &world.top]);
}

/// Command 6; real Nix 2.8 looks into the derivation before it comes to that, which no store of this kind lets it do.
#[test]
fn paths_are_built() {
    let Some(world) = World::new() else { return };
    let derivation = world.store.nix_lines("nix-store", ["-q", "--deriver", &world.top]).remove(0);
    let failing = r#"derivation { name = "bad"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "exit 3" ]; }"#;
    let failing = world.store.instantiate(failing).remove(0);
    world.nix(&["copy", "--derivation", "--to", &remote(&world, "other"), &derivation, &failing]);
    let build = |path: &str| {
        let request = [&numbers(&[6, 1])[..], &string(path), &numbers(&[0, 0, 0, 0, 0, 0])].concat();
        answer(&world, "other", &["--write"], &request)
    };
    let built = build(&derivation);
    let stderr = String::from_utf8_lossy(&built.stderr);
    assert_eq!(built.stdout, numbers(&[GREETING[0], GREETING[1], 0]), "{stderr}");
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("other", path));
    }
    let failed = build(&failing);
    let message = failed.stdout.strip_prefix(&numbers(&[GREETING[0], GREETING[1], 100])[..]);
    let message = String::from_utf8_lossy(message.unwrap());
    assert!(message.contains("failed with exit code 3"), "{message}");
}

/// The build hook of real Nix: BuildDerivation, and the log on standard error.
#[test]
fn kiln_is_a_machine_that_builds_for_real_nix() {
    let Some(world) = World::new() else { return };
    let expression = r#"
      let lib = derivation { name = "lib"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo lib of machine > $out" ]; };
      in derivation { name = "made"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo a line of the log; echo ${lib} > $out" ]; }"#;
    let derivation = world.store.instantiate(expression).remove(0);
    let builders = format!("{} - - 1 1", remote(&world, "other"));
    let build = ["--max-jobs", "0", "--builders", &builders, "-r", &derivation];
    let output = world.store.nix().output("nix-store", build);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("a line of the log"), "{stderr}");
    let made = String::from_utf8(output.stdout).unwrap();
    world.same(made.trim().as_ref(), &world.in_other_store("other", made.trim()));
    world.store.verify();
}

/// What a server answers to these bytes, after which the client says no more.
fn answer(world: &World, name: &str, flags: &[&str], requests: &[u8]) -> Output {
    let link = world.place("nix-store");
    if !link.exists() {
        world.store.kiln_as("nix-store");
    }
    let settings = format!("sandbox-paths = {SANDBOX_PATHS}");
    let mut command = with_settings(world, link.to_str().unwrap(), name, &settings);
    command.arg("--serve").args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let all = [&numbers(&[CLIENT_MAGIC, VERSION])[..], requests].concat();
    let writing = std::thread::spawn(move || drop(input.write_all(&all)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = numbers(&[text.len() as u64]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

const GREETING: [u64; 2] = [0x5452_eecb, 0x207];

/// Commands 4 and 5, which newer clients don't use; and where one command ends and the next begins.
#[test]
fn export_streams_come_and_go() {
    let Some(world) = World::new() else { return };
    let paths: Vec<u8> = world.closure.iter().flat_map(|path| string(path)).collect();
    let count = world.closure.len() as u64;
    world.nix(&["copy", "--no-check-sigs", "--to", &world.other_store("other"), &world.top]);
    let exported = answer(&world, "other", &[], &[&numbers(&[5, 0, count])[..], &paths].concat());
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let stream = exported.stdout.strip_prefix(&numbers(&GREETING)[..]).unwrap();
    let sorted = world.store.nix_lines("nix-store", ["-qR", &world.top]);
    let theirs = world
        .store
        .nix()
        .output("nix-store", ["--export"].into_iter().chain(sorted.iter().map(|path| &**path)));
    assert!(stream == theirs.stdout);

    let valid = [&numbers(&[1, 0, 0, count])[..], &paths].concat();
    let requests = [&numbers(&[4])[..], stream, &valid].concat();
    let imported = answer(&world, "third", &["--write"], &requests);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let expected = [&numbers(&GREETING)[..], &numbers(&[1, count]), &paths].concat();
    assert_eq!(imported.stdout, expected);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("third", path));
    }
}

#[test]
fn who_may_only_read_changes_nothing() {
    let Some(world) = World::new() else { return };
    let options = numbers(&[0, 0, 0, 0, 0, 0]);
    let none = string("");
    let info = [&string(&world.top)[..], &none, &string(&"0".repeat(64)), &numbers(&[0, 0, 8, 0, 0]), &none]
        .concat();
    for (request, refusal) in [
        ([&numbers(&[6, 0])[..], &options].concat(), "building paths is not allowed"),
        (numbers(&[4, 0]), "importing paths is not allowed"),
        ([&numbers(&[9])[..], &info, &[0; 8]].concat(), "importing paths is not allowed"),
    ] {
        let ran = Ran::from(answer(&world, "other", &[], &request));
        assert!(ran.failed(1).contains(refusal), "{refusal}: {}", ran.stderr);
    }
    // To be locked or substituted is a wish that only those with '--write' have.
    let asked = [&numbers(&[1, 1, 1, 1])[..], &string(&world.top)].concat();
    let output = answer(&world, "other", &[], &asked);
    assert_eq!(output.stdout, numbers(&[GREETING[0], GREETING[1], 0]));
}

#[test]
fn nonsense_ends_the_session() {
    let Some(world) = World::new() else { return };
    let top = string(&world.top);
    for (request, reason) in [
        (numbers(&[77]), "serve command 77"),
        (numbers(&[1, 0, 0, u64::MAX]), "too long"),
        ([&numbers(&[3])[..], &string("/elsewhere/x")].concat(), "/elsewhere/x"),
        ([&numbers(&[3])[..], &top].concat(), "is not valid"),
        (numbers(&[1, 0]), "unexpected end of file"),
        (numbers(&[6, 0, 0, 0, 0, 3, 0, 0]), "repeating builds"),
    ] {
        let ran = Ran::from(answer(&world, "other", &["--write"], &request));
        assert!(ran.failed(1).contains(reason), "{reason}: {}", ran.stderr);
    }
}
