//! Caches at a server that takes files.

use kiln_testing::{Fault, WebServer};

use crate::world::{World, check_cache, files};

#[test]
fn caches_are_written_by_put() {
    let Some(world) = World::new() else { return };
    let cache = world.place("cache");
    std::fs::create_dir(&cache).unwrap();
    let server = WebServer::serving(&cache);
    let key = world.secret_key.display();
    let to = format!("{}?compression=zstd&write-nar-listing=1&secret-key={key}", server.url());
    // Servers stumble.
    server.fault("/nar/", 1, Fault::Status(503, Vec::new()));
    server.fault(".narinfo", 1, Fault::CloseAfter(0));
    world.copy(&["--to", &to, &world.top]);
    assert_eq!(check_cache(&cache), world.closure.len());
    assert_eq!(files(&cache, "ls").len(), world.closure.len());
    let puts = |pattern: &str| {
        server
            .requests()
            .iter()
            .filter(|request| request.starts_with("PUT") && request.contains(pattern))
            .count()
    };
    let written = puts("");
    world.copy(&["--to", &to, &world.top]);
    assert_eq!(puts(""), written, "what is there is not sent again");

    let nix = ["copy", "--from", &server.url(), "--to", &world.other_store("other"), &world.top];
    world.nix(&[&nix[..], &["--option", "trusted-public-keys", &world.public_key]].concat());
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("other", path));
    }
}

#[test]
fn a_server_that_takes_nothing_is_told_of() {
    let Some(world) = World::new() else { return };
    let cache = world.place("cache");
    std::fs::create_dir(&cache).unwrap();
    let server = WebServer::serving(&cache);
    server.fault("nix-cache-info", 9, Fault::Status(403, Vec::new()));
    let ran = world.store.kiln(["copy", "--to", &server.url(), &world.top]);
    assert!(ran.failed(1).contains("unable to upload to"), "{}", ran.stderr);
    server.heal();
    server.fault("/nar/", 100, Fault::Status(405, Vec::new()));
    let ran = world.store.kiln(["copy", "--to", &server.url(), &world.top]);
    assert!(ran.failed(1).contains("HTTP error 405"), "{}", ran.stderr);
    assert_eq!(check_cache(&cache), 0);
}
