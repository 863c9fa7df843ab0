//! Caches that real Nix writes, read by Kiln.

use std::fs;

use crate::world::{World, check_cache, fields, narinfos};

#[test]
fn kiln_reads_each_compression_of_nix() {
    let Some(world) = World::new() else { return };
    for compression in ["none", "xz", "zstd", "bzip2", "gzip", "br", "lzip"] {
        let parameters = format!("compression={compression}&secret-key={}", world.secret_key.display());
        world.nix(&["copy", "--to", &world.cache(compression, &parameters), &world.top]);
        let (cache, name) = (world.cache(compression, ""), format!("store-{compression}"));
        let to = world.other_store(&name);
        let arguments = ["--from", &cache, "--to", &to, &world.top];
        let refused = world.store.kiln([&["copy"], &arguments[..]].concat());
        assert!(refused.failed(1).contains("signed by 'test-1', not by any"), "{}", refused.stderr);
        world.copy(&[&arguments[..], &["--trusted-public-keys", &world.public_key]].concat());
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store(&name, path));
        }
        let trusted = ["--option", "trusted-public-keys", &world.public_key];
        let verify = ["store", "verify", "--store", &to, "--all", "--sigs-needed", "1"];
        world.nix(&[&verify[..], &trusted].concat());
    }
}

#[test]
fn a_cache_is_copied_to_another() {
    let Some(world) = World::new() else { return };
    world.nix(&["copy", "--to", &world.cache("theirs", "compression=xz"), &world.top]);
    let key = format!("compression=zstd&compression-level=9&secret-key={}", world.secret_key.display());
    world.copy(&["--from", &world.cache("theirs", ""), "--to", &world.cache("ours", &key), &world.top]);
    assert_eq!(check_cache(&world.place("ours")), world.closure.len());
    for (name, text) in narinfos(&world.place("ours")) {
        let (ours, theirs) = (fields(&text), fields(&narinfos(&world.place("theirs"))[&name]));
        for field in ["StorePath", "NarHash", "NarSize", "References"] {
            assert_eq!(ours[field], theirs[field]);
        }
        assert!(ours["Sig"].starts_with("test-1:"));
    }
}

#[test]
fn nothing_damaged_gets_through() {
    let Some(world) = World::new() else { return };
    world.nix(&["copy", "--to", &world.cache("theirs", "compression=none"), &world.top]);
    let cache = world.place("theirs");
    let top = narinfos(&cache).into_values().find(|text| text.contains("-top\n")).unwrap();
    let file = cache.join(&fields(&top)["URL"]);
    let good = fs::read(&file).unwrap();
    let mut damaged = good.clone();
    *damaged.iter_mut().rev().find(|byte| **byte == b'g').unwrap() = b'h';
    for (number, bad) in
        [damaged, good[..good.len() - 8].to_vec(), [&good[..], b"more"].concat()].iter().enumerate()
    {
        fs::write(&file, bad).unwrap();
        let from = world.cache("theirs", "");
        for to in [
            world.cache(&format!("cache-{number}"), "compression=none"),
            world.other_store(&format!("store-{number}")),
        ] {
            let ran = world.store.kiln(["copy", "--no-check-sigs", "--from", &from, "--to", &to, &world.top]);
            ran.failed(1);
        }
        let copied = check_cache(&world.place(&format!("cache-{number}")));
        assert_eq!(copied, world.closure.len() - 1);
    }
}
