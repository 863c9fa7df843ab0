//! Garbage in caches.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::world::{CHAIN, World, check_cache, fields, narinfos};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn collect(world: &World, more: &[&str]) -> Value {
    let cache = world.place("cache").display().to_string();
    let ran = world.store.kiln([&["cache", "gc", "--json", &cache], more].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Makes a file seem older.
fn age(file: &Path, days: u32) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

fn narinfo(cache: &Path, suffix: &str) -> std::path::PathBuf {
    let found = narinfos(cache);
    let name = found.iter().find(|(_, text)| fields(text)["StorePath"].ends_with(suffix)).unwrap().0;
    cache.join(name)
}

#[test]
fn unnamed_files_go_and_named_ones_stay() {
    let Some(world) = World::new() else { return };
    world.copy(&["--to", &world.cache("cache", "write-nar-listing=1"), &world.top]);
    let cache = world.place("cache");
    let stray = cache.join("nar/0000000000000000000000000000000000000000000000000000.nar.xz");
    let listing = cache.join("00000000000000000000000000000000.ls");
    fs::write(&stray, "stray").unwrap();
    fs::write(&listing, "{}").unwrap();
    assert_eq!(collect(&world, &[])["files"], Value::Array(Vec::new()), "they may be about to be named");
    age(&stray, 1);
    let gone = collect(&world, &["--dry-run"]);
    assert_eq!((gone["files"].as_array().unwrap().len(), &gone["bytesFreed"]), (1, &5.into()));
    assert!(stray.exists());
    collect(&world, &["--grace", "0h"]);
    assert!(!stray.exists() && !listing.exists());
    assert_eq!(check_cache(&cache), world.closure.len());
}

#[test]
fn old_paths_go_unless_young_ones_need_them() {
    let Some(world) = World::with(CHAIN) else { return };
    let cache = world.place("cache");
    world.copy(&["--to", &world.cache("cache", "compression=zstd&write-nar-listing=1"), &world.top]);
    let all = check_cache(&cache);
    for name in narinfos(&cache).keys() {
        age(&cache.join(name), 40);
    }
    age(&narinfo(&cache, "-link-4"), 2);
    let gone = collect(&world, &["--older-than", "30d"]);
    // What the fourth link needs: itself, the links and leaves before it.
    assert_eq!(gone["kept"], 9);
    assert_eq!(gone["paths"].as_array().unwrap().len(), all - 9);
    assert_eq!(check_cache(&cache), 9);
    assert_eq!(fs::read_dir(cache.join("nar")).unwrap().count(), 9);
    assert_eq!(collect(&world, &["--older-than", "1d"])["kept"], 0);
    assert_eq!(fs::read_dir(cache.join("nar")).unwrap().count(), 0);
    world.copy(&["--to", &world.cache("cache", ""), &world.top]);
    assert_eq!(check_cache(&cache), all);
}

#[test]
fn broken_paths_are_told_and_go_when_they_should() {
    let Some(world) = World::with(CHAIN) else { return };
    let cache = world.place("cache");
    world.copy(&["--to", &world.cache("cache", "compression=zstd"), &world.top]);
    let all = check_cache(&cache);
    let text = fs::read_to_string(narinfo(&cache, "-link-10")).unwrap();
    fs::remove_file(cache.join(&fields(&text)["URL"])).unwrap();
    let told = collect(&world, &[]);
    assert!(told["faults"][0].as_str().unwrap().contains("-link-10' has lost its file 'nar/"), "{told}");
    assert_eq!(told["kept"], all);
    assert_eq!(collect(&world, &["--broken"])["paths"].as_array().unwrap().len(), 3, "two links refer to it");
    assert_eq!(check_cache(&cache), all - 3);

    fs::write(narinfo(&cache, "-leaf-3"), "StorePath: nonsense").unwrap();
    let place = cache.display().to_string();
    let refused = world.store.kiln(["cache", "gc", &place]);
    assert!(refused.failed(1).contains("is corrupt"), "{}", refused.stderr);
    collect(&world, &["--broken", "--grace", "0h"]);
    assert_eq!(check_cache(&cache), 14, "two links, and all leaves but one");
}

#[test]
fn a_collection_waits_for_a_copy() {
    let Some(world) = World::new() else { return };
    world.copy(&["--to", &world.cache("cache", ""), &world.top]);
    let cache = world.place("cache");
    let lock = File::open(&cache).unwrap();
    lock.lock_shared().unwrap();
    let mut command = world.store.kiln_command(["cache", "gc", "--grace", "0h"]);
    let mut child = command.arg(&cache).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "somebody may be writing");
    lock.unlock().unwrap();
    assert!(child.wait().unwrap().success());
}
