//! Caches that Kiln writes, read by real Nix and compared with those that it writes itself.

use std::fs;

use serde_json::Value;

use crate::world::{LARGE, World, check_cache, fields, files, narinfos};

const COMPRESSIONS: [&str; 6] = ["none", "xz", "zstd", "bzip2", "gzip", "br"];

#[test]
fn caches_are_those_of_nix() {
    let Some(world) = World::new() else { return };
    for compression in COMPRESSIONS {
        let parameters = format!(
            "compression={compression}&secret-key={}&write-nar-listing=1",
            world.secret_key.display()
        );
        let (ours, theirs) = (format!("ours-{compression}"), format!("theirs-{compression}"));
        world.copy(&["--to", &world.cache(&ours, &parameters), &world.top]);
        world.nix(&["copy", "--to", &world.cache(&theirs, &parameters), &world.top]);
        let (ours, theirs) = (world.place(&ours), world.place(&theirs));
        assert_eq!(check_cache(&ours), world.closure.len());

        let (our_infos, their_infos) = (narinfos(&ours), narinfos(&theirs));
        if matches!(compression, "none" | "xz" | "bzip2") {
            assert_eq!(our_infos, their_infos, "{compression}");
        }
        for (name, text) in &our_infos {
            let mut both = [fields(text), fields(&their_infos[name])];
            both.iter_mut().for_each(|fields| {
                fields.retain(|field, _| !["URL", "FileHash", "FileSize"].contains(&field.as_str()));
            });
            assert_eq!(both[0], both[1], "{compression}");
        }
        // Nix 2.8 has other orders of keys than later ones.
        let parsed = |text: &String| serde_json::from_str::<Value>(text).unwrap();
        let (our_lists, their_lists) = (files(&ours, "ls"), files(&theirs, "ls"));
        assert_eq!(our_lists.len(), world.closure.len());
        assert!(our_lists.keys().eq(their_lists.keys()));
        assert!(our_lists.values().map(parsed).eq(their_lists.values().map(parsed)), "{compression}");
        let info = |cache: &std::path::Path| fs::read_to_string(cache.join("nix-cache-info")).unwrap();
        assert_eq!(info(&ours), info(&theirs));
        assert!(!ours.join(".tmp").exists(), "nothing of the writing stays");
    }
}

#[test]
fn nix_reads_each_compression() {
    let Some(world) = World::new() else { return };
    for compression in COMPRESSIONS {
        let parameters = format!("compression={compression}&secret-key={}", world.secret_key.display());
        world.copy(&["--to", &world.cache(compression, &parameters), &world.top]);
        let cache = world.cache(compression, "");
        let listed = world.nix(&["path-info", "--store", &cache, "--recursive", &world.top]);
        assert!(listed.lines().all(|line| world.closure.contains(line)));
        assert_eq!(listed.lines().count(), world.closure.len());

        let trusted = ["--option", "trusted-public-keys", &world.public_key];
        let verify = ["store", "verify", "--store", &cache, "--recursive", "--sigs-needed", "1", &world.top];
        world.nix(&[&verify[..], &trusted].concat());

        let name = format!("nix-store-{compression}");
        let copy = ["copy", "--from", &cache, "--to", &world.other_store(&name), &world.top];
        world.nix(&[&copy[..], &trusted].concat());
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store(&name, path));
        }
    }
}

#[test]
fn what_is_compressed_in_parts_is_read_by_both() {
    let Some(world) = World::with(LARGE) else { return };
    let text = fs::read(&world.top).unwrap();
    assert!(text.len() > 25_000_000);
    for (compression, level) in [("zstd", -1), ("xz", 1)] {
        let parameters = format!(
            "compression={compression}&compression-level={level}&parallel-compression=true&secret-key={}",
            world.secret_key.display()
        );
        world.copy(&["--to", &world.cache(compression, &parameters), &world.top]);
        let (place, cache) = (world.place(compression), world.cache(compression, ""));
        assert_eq!(check_cache(&place), 1);
        if compression == "zstd" {
            let narinfo = narinfos(&place).into_values().next().unwrap();
            let file = fs::read(place.join(&fields(&narinfo)["URL"])).unwrap();
            let heads = file.windows(4).filter(|bytes| bytes == b"\x28\xb5\x2f\xfd").count();
            assert!(heads >= 4, "{heads} frames");
        }

        let (kilns, nixes) = (format!("kilns-{compression}"), format!("nixes-{compression}"));
        let keys = ["--trusted-public-keys", &world.public_key];
        let to = world.other_store(&kilns);
        world.copy(&[&["--from", &cache, "--to", &to, &world.top], &keys[..]].concat());
        let trusted = ["--option", "trusted-public-keys", &world.public_key];
        let to = world.other_store(&nixes);
        world.nix(&[&["copy", "--from", &cache, "--to", &to, &world.top], &trusted[..]].concat());
        for store in [kilns, nixes] {
            assert!(fs::read(world.in_other_store(&store, &world.top)).unwrap() == text, "{store}");
        }

        world.store.nix().run("nix-store", ["--delete", &world.top]);
        let substituting =
            ["-r", &world.top, "--option", "substitute", "true", "--option", "substituters", &cache];
        world.store.nix().run("nix-store", [&substituting[..], &trusted].concat());
        assert!(fs::read(&world.top).unwrap() == text);
    }
    world.store.verify();
}

#[test]
fn nix_substitutes_from_a_cache_of_kilns() {
    let Some(world) = World::new() else { return };
    let key = world.secret_key.display();
    world.copy(&["--to", &world.cache("cache", &format!("compression=zstd&secret-key={key}")), &world.top]);
    let text = fs::read(format!("{}/bin/all", world.top)).unwrap();
    world.store.nix().run("nix-store", ["--delete", &world.top]);
    assert!(fs::metadata(&world.top).is_err());
    let cache = world.cache("cache", "");
    let substituting =
        ["-r", &world.top, "--option", "substitute", "true", "--option", "substituters", &cache];
    let refused = world.store.nix().output("nix-store", substituting);
    assert!(!refused.status.success(), "nobody trusts the key");
    let trusted = ["--option", "trusted-public-keys", &world.public_key];
    world.store.nix().run("nix-store", [&substituting[..], &trusted].concat());
    assert_eq!(fs::read(format!("{}/bin/all", world.top)).unwrap(), text);
    world.store.verify();
}

#[test]
fn what_is_there_is_not_written_again() {
    let Some(world) = World::new() else { return };
    let cache = world.cache("cache", "compression=none");
    let ran = world.copy(&["--json", "--to", &cache, &world.top]);
    let first: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(first["paths"].as_array().unwrap().len(), world.closure.len());
    assert_eq!((&first["present"], &first["downloaded"]), (&0.into(), &0.into()));
    assert_eq!(first["narSize"], first["written"]);
    let before = narinfos(&world.place("cache"));
    let key = format!("compression=xz&secret-key={}", world.secret_key.display());
    let ran = world.copy(&["--json", "--to", &world.cache("cache", &key), &world.top]);
    let second: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((second["present"].as_u64(), second["written"].as_u64()), (Some(3), Some(0)));
    assert_eq!(narinfos(&world.place("cache")), before);
}

#[test]
fn references_have_to_be_there() {
    let Some(world) = World::new() else { return };
    let cache = world.cache("cache", "");
    let ran = world.store.kiln(["copy", "--no-recursive", "--to", &cache, &world.top]);
    assert!(ran.failed(1).contains("because the reference '"), "{}", ran.stderr);
    assert_eq!(check_cache(&world.place("cache")), 0);
    let theirs = world.store.nix().output("nix", ["copy", "--no-recursive", "--to", &cache, &world.top]);
    assert!(!theirs.status.success());
    for path in world.closure.iter().filter(|path| **path != world.top) {
        world.copy(&["--no-recursive", "--to", &cache, path]);
    }
    world.copy(&["--no-recursive", "--to", &cache, &world.top]);
    assert_eq!(check_cache(&world.place("cache")), world.closure.len());
}

#[test]
fn derivations_and_logs_go_along() {
    let Some(world) = World::new() else { return };
    let cache = world.cache("cache", "compression=none");
    let derivation = world.store.nix_lines("nix-store", ["-qd", &world.top]).remove(0);
    world.copy(&["--derivation", "--to", &cache, &world.top]);
    let needed = world.store.nix_lines("nix-store", ["-qR", &derivation]);
    assert_eq!(check_cache(&world.place("cache")), needed.len());
    world.copy(&["--logs", "--to", &cache, &derivation]);
    assert_eq!(check_cache(&world.place("cache")), needed.len() + world.closure.len());
    assert_eq!(world.nix(&["log", "--store", &cache, &derivation]), "log of top\n");
    let all = world.store.nix_lines("nix-store", ["-q", "--requisites", &derivation, &world.top]);
    world.copy(&["--all", "--to", &world.cache("all", "compression=none")]);
    assert!(check_cache(&world.place("all")) >= all.len());
}

#[test]
fn errors_say_what_is_wrong() {
    let Some(world) = World::new() else { return };
    let (cache, gone) = (world.cache("cache", ""), world.top.replace("-top", "-gone"));
    for (arguments, message) in [
        (vec!["--to", "file:///x?compression=rar", &world.top], "one of none, xz, zstd, bzip2, gzip and br"),
        (vec!["--to", "ftp://host", &world.top], "ftp://host"),
        (vec!["--from", &cache, &world.top], "there is no such directory"),
        (vec!["--from", "./nowhere", &world.top], "there is no store"),
        (vec!["--to", &cache, &gone], "is not valid in"),
        (vec![&world.top], "--to"),
        (vec!["--to", &cache], "PATH"),
    ] {
        let ran = world.store.kiln([vec!["copy"], arguments].concat());
        assert!(ran.failed(1).contains(message), "{message}: {}", ran.stderr);
    }
}
