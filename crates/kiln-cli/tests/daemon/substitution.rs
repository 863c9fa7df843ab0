//! What clients want and a substituter has.

use std::fs;

use kiln_testing::Daemon;

use super::KILN;
use super::wire::{answer, numbers, string};

/// A daemon with a binary cache of its own, and the cache's URL.
fn with_cache() -> Option<(Daemon, String)> {
    let mut daemon = Daemon::find(KILN)?;
    let cache = format!("file://{}", daemon.path("cache").display());
    daemon.configure(&format!("substituters = {cache}\nrequire-sigs = false\n"));
    fs::create_dir(daemon.path("cache")).unwrap();
    let store_dir = daemon.nix().store_dir();
    daemon.write("cache/nix-cache-info", format!("StoreDir: {}\n", store_dir.display()));
    daemon.start(&[]);
    Some((daemon, cache))
}

#[test]
fn what_a_substituter_has_is_fetched_for_a_client() {
    let Some((daemon, cache)) = with_cache() else { return };
    let out = daemon.build(&["b"]).remove(0);
    let copied = daemon.run("nix", ["copy", "--to", &cache, &out]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    assert_eq!(daemon.run("nix-collect-garbage", [""; 0]).code, Some(0));
    assert!(!fs::exists(&out).unwrap());
    // The lookup cache may remember that the path was not there.
    let arguments = ["-A", "b", "--no-out-link", "--option", "narinfo-cache-negative-ttl", "0"];
    let ran = daemon.run("nix-build", arguments);
    assert_eq!(ran.line(), out, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("will be fetched") && ran.stderr.contains("copying path '"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("done b"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(out).unwrap(), "hi\n");
}

/// As clients before Nix 2.0 asked, for one path and for several.
#[test]
fn what_substituters_say_of_paths_is_told() {
    let Some((daemon, cache)) = with_cache() else { return };
    let path = daemon.build(&["source"]).remove(0);
    assert_eq!(daemon.run("nix", ["copy", "--to", &cache, &path]).code, Some(0));
    let digest = &path.rsplit('/').next().unwrap()[..32];
    let info = fs::read_to_string(daemon.path(&format!("cache/{digest}.narinfo"))).unwrap();
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let [download, size] = ["FileSize: ", "NarSize: "].map(|name| field(name).parse::<u64>().unwrap());
    let deriver = format!("{}/{}", daemon.nix().store_dir().display(), field("Deriver: "));
    let nobodys = format!("{}/00000000000000000000000000000000-x", daemon.nix().store_dir().display());
    let info = [string(deriver.as_bytes()), numbers(&[0, download, size])].concat();
    let [path, nobodys] = [path, nobodys].map(|path| string(path.as_bytes()));
    let last = numbers(&[0x616c_7473]);
    let none = string(b"");
    for (minor, request, expected) in [
        (34, [&numbers(&[21]), &path[..]].concat(), [&last[..], &numbers(&[1]), &info].concat()),
        (34, [&numbers(&[21]), &nobodys[..]].concat(), [&last[..], &numbers(&[0])].concat()),
        (
            34,
            [&numbers(&[30, 2]), &nobodys[..], &none, &path, &none].concat(),
            [&last[..], &numbers(&[1]), &path, &info].concat(),
        ),
        (
            21,
            [&numbers(&[30, 2]), &nobodys[..], &path].concat(),
            [&last[..], &numbers(&[1]), &path, &info].concat(),
        ),
    ] {
        let answer = answer(&daemon, minor, &request);
        assert!(answer.ends_with(&expected), "{minor}: {}", String::from_utf8_lossy(&answer));
    }
}
