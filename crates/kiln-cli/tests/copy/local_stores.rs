//! From one local store to another.

use crate::world::World;

#[test]
fn stores_are_copied_and_checked() {
    let Some(world) = World::new() else { return };
    let to = world.other_store("other");
    let refused = world.store.kiln(["copy", "--to", &to, &world.top]);
    assert!(refused.failed(1).contains("it is not signed"), "{}", refused.stderr);
    let ran = world.copy(&["--to", &to, "--no-check-sigs", &world.top]);
    assert!(ran.stderr.contains("3 paths copied"), "{}", ran.stderr);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("other", path));
    }
    let listed = world.nix(&["path-info", "--store", &to, "--all"]);
    assert_eq!(listed.lines().count(), world.closure.len());
    let again = world.copy(&["--to", &to, "--no-check-sigs", &world.top]);
    assert!(again.stderr.contains("0 paths copied (0.00 MiB), 3 there already"), "{}", again.stderr);

    // And back, where it is there already, without a signature.
    world.copy(&["--from", &to, &world.top]);
    let signed =
        ["store", "sign", "--recursive", "--key-file", &world.secret_key.display().to_string(), &world.top];
    assert_eq!(world.store.kiln(signed).line(), "3 signatures added");
    let third = world.other_store("third");
    world.copy(&["--to", &third, "--trusted-public-keys", &world.public_key, &world.top]);
    let verify = ["store", "verify", "--store", &third, "--all", "--sigs-needed", "1"];
    world.nix(&[&verify[..], &["--option", "trusted-public-keys", &world.public_key]].concat());
}

#[test]
fn a_source_that_was_changed_is_noticed() {
    let Some(world) = World::new() else { return };
    let to = world.other_store("other");
    world.copy(&["--to", &to, "--no-check-sigs", &world.top]);
    let lib = world.closure.iter().find(|path| path.ends_with("-lib")).unwrap();
    let file = world.in_other_store("other", lib);
    let mut permissions = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&file, permissions).unwrap();
    std::fs::write(&file, "bad\n").unwrap();
    for third in [world.other_store("third"), world.cache("cache", "")] {
        let ran = world.store.kiln(["copy", "--from", &to, "--to", &third, "--no-check-sigs", &world.top]);
        assert!(ran.failed(1).contains("hash mismatch"), "{}", ran.stderr);
    }
}

#[test]
fn stores_tell_what_they_are() {
    let Some(world) = World::new() else { return };
    let store_dir = world.store.nix().store_dir().display().to_string();
    let here = world.store.kiln(["store", "ping", "--json"]);
    let here: serde_json::Value = serde_json::from_str(&here.stdout).unwrap();
    assert_eq!(here["storeDir"], store_dir.as_str());
    world.copy(&["--to", &world.cache("cache", ""), &world.top]);
    let cache = world.store.kiln(["store", "ping", &world.cache("cache", "priority=7&want-mass-query=1")]);
    let place = world.place("cache");
    let expected = format!(
        "Store URL: file://{}\nStore directory: {store_dir}\nPriority: 7\nWants mass query: yes\n",
        place.display()
    );
    assert_eq!(cache.stdout, expected);
    for url in [world.cache("nothing", ""), world.other_store("nothing"), "http://127.0.0.1:1".to_owned()] {
        world.store.kiln(["store", "ping", "--download-attempts", "1", &url]).failed(1);
    }
}
