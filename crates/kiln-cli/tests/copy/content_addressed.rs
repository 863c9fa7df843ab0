//! Paths whose names follow from their contents need no signatures.

use serde_json::Value;

use crate::world::{CHAIN, World};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn copies_are_those_of_nix() {
    let Some(world) = World::with(CHAIN) else { return };
    let command = ["store", "make-content-addressed", "--json"].map(str::to_owned);
    let ours = world.store.kiln(command.into_iter().chain(world.closure.iter().cloned()));
    assert_eq!(ours.code, Some(0), "{}", ours.stderr);
    let rewrites = json(&ours.stdout);
    assert_eq!(rewrites["rewrites"].as_object().unwrap().len(), world.closure.len());
    let copy = rewrites["rewrites"][&world.top].as_str().unwrap();
    // Nix says of the same what it makes of it, in a store that has not seen ours.
    let other = world.other_store("other");
    world.copy(&["--no-check-sigs", "--to", &other, &world.top]);
    let command = ["store", "make-content-addressed", "--json", "--recursive"];
    let theirs = world.nix(&[&command[..], &["--store", &other, &world.top]].concat());
    assert_eq!(json(&theirs), rewrites);

    // A store that trusts nobody takes it.
    let third = world.other_store("third");
    world.copy(&["--to", &third, copy]);
    world.nix(&["store", "verify", "--store", &third, "--all", "--sigs-needed", "1"]);
    world.store.verify();
}

#[test]
fn a_path_that_contains_its_own_name_is_rewritten() {
    let Some(world) = World::new() else { return };
    let copy = world.store.kiln(["store", "make-content-addressed", &world.top]).line().to_owned();
    let text = std::fs::read_to_string(format!("{copy}/bin/all")).unwrap();
    assert!(text.contains(&copy) && !text.contains(&world.top), "{text}");
    assert!(world.closure.iter().all(|path| !text.contains(path.as_str())), "{text}");
    assert!(std::fs::read_link(format!("{copy}/link")).unwrap().exists());
    let again = world.store.kiln(["store", "make-content-addressed", &copy]);
    assert_eq!(again.line(), copy, "it is its own copy");
    let third = world.other_store("third");
    world.copy(&["--to", &third, &copy]);
    world.store.kiln(["store", "verify", "--recursive", "-n", "1", &copy]).lines();
    world.store.verify();
}
