//! Keys and signatures, by Kiln for Nix and by Nix for Kiln.

use std::fs;
use std::process::Stdio;

use kiln_testing::Ran;

use crate::world::World;

fn converted(world: &World, secret: &str, program: &str) -> String {
    let file = world.store.write("some-key", secret);
    let mut command = match program {
        "kiln" => world.store.kiln_command(["cache", "key", "convert-secret-to-public"]),
        _ => {
            let mut command = world.store.nix().command("nix");
            command.args(["key", "convert-secret-to-public"]);
            command
        }
    };
    let output = command.stdin(Stdio::from(fs::File::open(file).unwrap())).output().unwrap();
    Ran::from(output).line().to_owned()
}

#[test]
fn keys_are_those_of_nix() {
    let Some(world) = World::new() else { return };
    let ours = world.store.kiln(["cache", "key", "generate", "cache.example.org-1"]);
    let theirs = world.nix(&["key", "generate-secret", "--key-name", "cache.example.org-1"]);
    assert_eq!(ours.line().len(), theirs.len());
    assert_eq!(ours.stdout.len(), theirs.len(), "there is no line feed");
    assert_ne!(ours.stdout, theirs);
    for secret in [&ours.stdout, &theirs] {
        let public = converted(&world, secret, "kiln");
        assert!(public.starts_with("cache.example.org-1:"));
        assert_eq!(public, converted(&world, secret, "nix"));
    }
    for name in ["", "a:b", "a b"] {
        world.store.kiln(["cache", "key", "generate", name]).failed(1);
    }
}

#[test]
fn signatures_of_both_are_believed_by_both() {
    let Some(world) = World::new() else { return };
    let trusted = ["--trusted-public-keys", &world.public_key];
    let verify = |more: &[&str]| world.store.kiln([&["store", "verify"], &trusted[..], more].concat());
    // Built here, which is enough where no signature is demanded.
    assert_eq!(verify(&["--sigs-needed", "0", "--recursive", &world.top]).code, Some(0));
    let unsigned = verify(&["--sigs-needed", "1", "--recursive", &world.top]);
    assert_eq!(unsigned.code, Some(2), "{}", unsigned.stderr);
    assert_eq!(unsigned.stdout.lines().count(), world.closure.len());
    assert!(unsigned.stderr.contains("is untrusted: it has 0 of 1 signatures"), "{}", unsigned.stderr);

    let key = world.secret_key.display().to_string();
    let sign = |more: &[&str]| world.store.kiln([&["store", "sign", "-k", &key], more].concat());
    assert_eq!(sign(&[&world.top]).line(), "1 signatures added");
    assert_eq!(sign(&["--recursive", &world.top]).line(), "2 signatures added");
    assert_eq!(sign(&["--recursive", &world.top]).line(), "0 signatures added");
    assert_eq!(verify(&["--sigs-needed", "1", "--recursive", &world.top]).code, Some(0));
    assert_eq!(verify(&["--sigs-needed", "2", "--no-contents", &world.top]).code, Some(2));
    let option = ["--option", "trusted-public-keys", &world.public_key];
    let theirs = ["store", "verify", "--recursive", "--sigs-needed", "1", &world.top];
    world.nix(&[&theirs[..], &option].concat());

    let second = world.nix(&["key", "generate-secret", "--key-name", "test-2"]);
    let file = world.store.write("second.sec", &second).display().to_string();
    world.nix(&["store", "sign", "--key-file", &file, &world.top]);
    let keys = format!("{} {}", world.public_key, converted(&world, &second, "nix"));
    let both = world.store.kiln(["store", "verify", "-n", "2", "--trusted-public-keys", &keys, &world.top]);
    assert_eq!(both.code, Some(0), "{}", both.stderr);
}
