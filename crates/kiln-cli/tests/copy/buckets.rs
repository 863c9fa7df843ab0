//! Caches in buckets of S3, at a server that checks every signature.

use kiln_testing::{BucketServer, Ran, Uploads};

use crate::world::World;

const VARIABLES: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE"];

/// Runs Kiln with these variables for credentials, and no others.
fn kiln(world: &World, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = world.store.kiln_command(arguments);
    for name in VARIABLES.into_iter().chain(["AWS_PROFILE"]) {
        command.env_remove(name);
    }
    Ran::from(command.envs(variables.iter().copied()).output().unwrap())
}

fn keys() -> Vec<(&'static str, &'static str)> {
    VARIABLES.into_iter().zip(BucketServer::CREDENTIALS).take(3).collect()
}

#[test]
fn caches_in_buckets_are_written_and_read() {
    let (Some(world), Some(server)) = (World::new(), BucketServer::find()) else { return };
    let to = format!("{}&compression=zstd&secret-key={}", server.url("open"), world.secret_key.display());
    let copy = ["copy", "--logs", "--to", &to, &world.top];
    let written = kiln(&world, &keys(), &copy);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let again = kiln(&world, &keys(), &copy);
    assert!(again.stderr.contains("0 paths copied"), "{}", again.stderr);

    // Real Nix reads it as files, since that of Debian knows nothing of S3; Kiln does so too, without credentials.
    let nix = ["copy", "--from", &server.http_url("open"), "--to", &world.other_store("nix"), &world.top];
    world.nix(&[&nix[..], &["--option", "trusted-public-keys", &world.public_key]].concat());
    let (from, other) = (server.url("open"), world.other_store("kiln"));
    let keys = ["--option", "trusted-public-keys", &world.public_key];
    let read =
        kiln(&world, &[], &[&["copy", "--from", &from, "--to", &other, &world.top], &keys[..]].concat());
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("nix", path));
        world.same(path.as_ref(), &world.in_other_store("kiln", path));
    }
}

#[test]
fn who_has_no_key_reads_and_writes_nothing() {
    let (Some(world), Some(server)) = (World::new(), BucketServer::find()) else { return };
    let closed = server.url("closed");
    let refused = |variables: &[(&str, &str)], arguments: &[&str]| {
        let ran = kiln(&world, variables, arguments);
        let text = ran.failed(1).to_owned();
        assert!(!text.contains("X-Amz"), "signatures are not told: {text}");
        text
    };
    let to = ["copy", "--to", &closed, &world.top];
    assert!(refused(&[], &to).contains("HTTP error 403"));
    let mut wrong = keys();
    wrong[1].1 = "another";
    assert!(refused(&wrong, &to).contains("HTTP error 403"));
    assert!(refused(&wrong, &["store", "ping", &closed]).contains("HTTP error 403"));
    assert!(refused(&keys(), &["store", "ping", &closed]).contains("does not appear to be a binary cache"));

    // The same keys in a file, under a name.
    let [key, secret, token, _] = BucketServer::CREDENTIALS;
    let file = format!(
        "[default]\naws_access_key_id = x\naws_secret_access_key = y\n[it]\naws_access_key_id = {key}\n\
         aws_secret_access_key = {secret}\naws_session_token = {token}\n"
    );
    let file = world.store.write("credentials", file).display().to_string();
    let file = [("AWS_SHARED_CREDENTIALS_FILE", file.as_str())];
    assert!(refused(&file, &to).contains("HTTP error 403"));
    let named = format!("{closed}&profile=it");
    let written = kiln(&world, &file, &["copy", "--to", &named, &world.top]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let found = kiln(&world, &file, &["store", "ping", &named]);
    assert!(found.lines()[0].starts_with("Store URL: s3://closed?endpoint="), "{}", found.stdout);
    let nobody = format!("{closed}&profile=nobody");
    assert!(refused(&file, &["store", "ping", &nobody]).contains("credentials of profile 'nobody'"));
}

/// Adds a path to the store that makes three parts.
fn large(world: &World) -> String {
    let lines: String = (0..1_500_000).map(|number| format!("{number:07}\n")).collect();
    let file = world.store.write("large", lines);
    world.store.nix_lines("nix-store", ["--add".as_ref(), file.as_os_str()]).remove(0)
}

const PARTS: &str = "compression=none&multipart-threshold=6000000&multipart-chunk-size=5242880";

#[test]
fn large_files_are_sent_in_parts() {
    let (Some(world), Some(server)) = (World::new(), BucketServer::find()) else { return };
    let path = large(&world);
    let to = format!("{}&{PARTS}&secret-key={}", server.url("open"), world.secret_key.display());
    let written = kiln(&world, &keys(), &["copy", "--to", &to, &path, &world.top]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert_eq!(server.uploads(), Uploads { begun: 1, parts: 3, kept: 0 }, "of one file alone");
    let nix = ["copy", "--from", &server.http_url("open"), "--to", &world.other_store("nix"), &path];
    world.nix(&[&nix[..], &["--option", "trusted-public-keys", &world.public_key]].concat());
    world.same(path.as_ref(), &world.in_other_store("nix", &path));

    let whole = format!("{}&{PARTS}&multipart-upload=false", server.url("closed"));
    let written = kiln(&world, &keys(), &["copy", "--to", &whole, &path]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert_eq!(server.uploads().begun, 1);
    let small = format!("{}&multipart-chunk-size=1000", server.url("closed"));
    let refused = kiln(&world, &keys(), &["copy", "--to", &small, &path]);
    assert!(refused.failed(1).contains("5242880 bytes or more, not '1000'"), "{}", refused.stderr);
}

#[test]
fn of_an_upload_that_fails_no_part_is_kept() {
    let (Some(world), Some(server)) = (World::new(), BucketServer::find()) else { return };
    let path = large(&world);
    let to = format!("{}&{PARTS}", server.url("full"));
    let ran = kiln(&world, &keys(), &["copy", "--to", &to, &path]);
    let stderr = ran.failed(1);
    assert!(stderr.contains("HTTP error 403") && !stderr.contains("X-Amz"), "{stderr}");
    let Uploads { begun, parts, kept } = server.uploads();
    assert!(begun == 1 && parts >= 2 && kept == 0, "{begun} {parts} {kept}");
    let there = kiln(&world, &keys(), &["copy", "--from", &to, "--to", &world.other_store("kiln"), &path]);
    assert!(there.failed(1).contains("is not valid in"), "{}", there.stderr);
}
