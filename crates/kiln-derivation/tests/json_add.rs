//! `nix derivation add`: which JSON is a derivation, by the rules of real Nix 2.34.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

use kiln_derivation::{
    Derivation, HashModuloCache, JsonVersion, OutputPathError, check_outputs, fill_in_outputs,
};
use kiln_store_path::StoreDir;
use serde_json::{Value, json};

const PATH: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

/// The derivation `simple` of the corpus.
fn simple() -> Value {
    json!({
        "args": ["-c", "echo hello > $out"],
        "builder": "/bin/sh",
        "env": {
            "PATH": "/bin:/usr/bin",
            "builder": "/bin/sh",
            "name": "simple",
            "out": format!("/nix/store/{PATH}"),
            "system": "x86_64-linux"
        },
        "inputs": { "drvs": {}, "srcs": [] },
        "name": "simple",
        "outputs": { "out": { "path": PATH } },
        "system": "x86_64-linux",
        "version": 4
    })
}

/// A change to a JSON value: the pointer to a place, and what to put there, or nothing to remove it.
type Change<'a> = (&'a str, Option<Value>);

fn changed(changes: &[Change<'_>]) -> Value {
    let mut json = simple();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => parent.insert(key.to_owned(), value.clone()),
            None => parent.remove(key),
        };
    }
    json
}

/// Reads, fills in and checks a derivation, and gives its path.
fn add(json: &Value) -> Result<String, String> {
    let store_dir = StoreDir::default();
    let hashes = HashModuloCache::new(store_dir.clone());
    let mut derivation =
        Derivation::parse_json(json.to_string().as_bytes(), None, &store_dir, JsonVersion::V4)
            .map_err(|error| error.to_string())?;
    let message = |error: OutputPathError| error.to_string();
    fill_in_outputs(&mut derivation, &hashes).map_err(message)?;
    check_outputs(&derivation, &hashes).map_err(message)?;
    Ok(derivation.to_file(&store_dir).unwrap().path.to_string())
}

#[test]
fn what_is_right_is_added() {
    const SIMPLE: &str = "4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv";
    for changes in [
        &[][..],
        &[("/unknown", Some(json!("ignored")))],
        &[("/outputs/out", Some(json!({}))), ("/env/out", Some(json!("")))],
        &[("/outputs/out", Some(json!({})))],
    ] {
        assert_eq!(add(&changed(changes)).as_deref(), Ok(SIMPLE), "{changes:?}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let full_path = json!(format!("/nix/store/{PATH}"));
    let other_path = json!("00000000000000000000000000000000-simple");
    for (changes, message) in [
        (&[("/version", Some(json!(3)))][..], "derivation JSON: 'version' must be 4, found 3"),
        (&[("/version", None)], "derivation JSON: 'version' is missing"),
        (&[("/name", None)], "derivation JSON: 'name' is missing"),
        (&[("/inputs", None)], "derivation JSON: 'inputs' is missing"),
        (&[("/inputs/srcs", None)], "derivation JSON: 'inputs.srcs' is missing"),
        (&[("/args", None)], "derivation JSON: 'args' is missing"),
        (&[("/outputs", None)], "derivation JSON: 'outputs' is missing"),
        (&[("/outputs", Some(json!({})))], "derivation JSON: must have at least one output"),
        (&[("/system", Some(json!(1)))], "derivation JSON: 'system' must be a string, found a number"),
        (&[("/env/x", Some(json!(1)))], "derivation JSON: 'env.x' must be a string, found a number"),
        (
            &[("/outputs/out/extra", Some(json!("")))],
            "derivation JSON: output 'out' has an unexpected set of keys: extra, path",
        ),
        (
            &[("/outputs/out/path", Some(full_path))],
            "derivation JSON: 'outputs.out.path': '/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple' is not a valid store path: illegal base-32 character '/'",
        ),
        (
            &[("/env/__json", Some(json!("{}")))],
            "derivation JSON: 'env' must not contain '__json', use 'structuredAttrs' instead",
        ),
        (
            &[("/outputs/out/path", Some(other_path))],
            "derivation 'simple' has incorrect output '/nix/store/00000000000000000000000000000000-simple', should be '/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple'",
        ),
        (
            &[("/outputs/out", Some(json!({}))), ("/env/out", None)],
            "derivation 'simple' has missing environment variable 'out', should be '/nix/store/",
        ),
        (
            &[("/name", Some(json!("other")))],
            "derivation 'other' has incorrect output '/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple', should be",
        ),
        (
            &[("/outputs/out", Some(json!({ "hash": "sha256-x", "method": "flat" })))],
            "derivation JSON: 'outputs.out.hash': hash 'sha256-x' has wrong length",
        ),
        (
            &[("/outputs/out", Some(json!({ "hashAlgo": "sha256", "method": "tar" })))],
            "derivation JSON: 'outputs.out.method': unknown content-addressing method 'tar'",
        ),
        (
            &[("/outputs/out", Some(json!({ "hashAlgo": "sha256", "method": "nar", "impure": false })))],
            "derivation JSON: output 'out' has an unexpected set of keys: hashAlgo, impure, method",
        ),
    ] {
        let error = add(&changed(changes)).unwrap_err();
        assert!(error.starts_with(message), "{changes:?} gives: {error}");
    }
}

#[test]
fn text_that_is_no_json_is_refused() {
    let parse = |text: &[u8]| Derivation::parse_json(text, None, &StoreDir::default(), JsonVersion::V4);
    let whole = simple().to_string();
    parse(whole.as_bytes()).unwrap();
    for end in 0..whole.len() {
        assert!(parse(&whole.as_bytes()[..end]).is_err(), "the first {end} bytes");
    }
    assert!(parse(b"[]").is_err());
    assert!(parse(&b"[".repeat(100_000)).is_err(), "deep nesting is refused, not recursed into");
}
