//! The derivations that real Nix wrote: text, path, output paths and JSON of each come out the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_derivation::{
    Derivation, HashModuloCache, JsonLayout, JsonVersion, Strictness, check_outputs, derivation_path,
    show_json,
};
use kiln_store_path::{OutputName, StoreDir, StorePath};

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

/// Every derivation of the corpus by its path, with its text.
fn corpus() -> BTreeMap<StorePath, Vec<u8>> {
    let files: BTreeMap<_, _> = std::fs::read_dir(data("drv"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|file| {
            let path = StorePath::from_base_name(file.file_name().unwrap().as_encoded_bytes()).unwrap();
            (path, std::fs::read(file).unwrap())
        })
        .collect();
    assert_eq!(files.len(), 51, "the corpus is complete");
    files
}

fn parse(path: &StorePath, text: &[u8]) -> Derivation {
    let name = Derivation::name_of_path(path).unwrap();
    Derivation::parse_aterm(text, &name, &StoreDir::default(), Strictness::Strict).unwrap()
}

/// A cache that knows the inputs of `derivation`.
fn hashes_for(derivation: &Derivation, corpus: &BTreeMap<StorePath, Vec<u8>>) -> HashModuloCache {
    let mut hashes = HashModuloCache::new(StoreDir::default());
    hashes
        .load_inputs(derivation, |path| {
            corpus.get(path).map(|text| parse(path, text)).ok_or("not in the corpus")
        })
        .unwrap();
    hashes
}

#[test]
fn text_and_path_come_out_the_same() {
    let store_dir = StoreDir::default();
    for (path, text) in corpus() {
        let derivation = parse(&path, &text);
        let file = derivation.to_file(&store_dir).unwrap();
        assert_eq!(file.text, text, "text of {path}");
        assert_eq!(file.path, path);
        assert_eq!(derivation_path(&store_dir, &derivation.name, &text, file.references).unwrap(), path);
    }
}

#[test]
fn output_paths_recompute() {
    let corpus = corpus();
    let mut known_paths = 0;
    for (path, text) in &corpus {
        let derivation = parse(path, text);
        check_outputs(&derivation, &hashes_for(&derivation, &corpus))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        known_paths += derivation.known_output_paths().count();
    }
    assert_eq!(known_paths, 45, "every output with a path was checked");
}

#[test]
fn known_hashes() {
    let corpus = corpus();
    let masked = |base_name: &str| {
        let path = StorePath::from_base_name(base_name).unwrap();
        let derivation = parse(&path, &corpus[&path]);
        hashes_for(&derivation, &corpus).masked(&derivation).unwrap()
    };
    assert_eq!(
        masked("4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv").hash.base16(),
        "acb5cfeef60b883429633150f8c6edcce30388c568a54afcbaf7a571ec6c8f4c"
    );
    // Two derivations of the same fixed output make no difference to what uses them.
    for user in
        ["m29bijgk8g7nyh4pc5ybamm8dpc34kaa-use-fod.drv", "zkw7n5dj0qr7cafqg3716fzby5xb8931-use-fod.drv"]
    {
        let hash = masked(user);
        assert_eq!(hash.hash.base16(), "67fa2864d5043d7ca55c796d7a957a26e01cc928901d9daf61acf9de5d73a28f");
        assert!(!hash.is_deferred);
    }
    let ca_dep = masked("y0kxkhmy6pvy551rg5vbghkav9mdr2sj-ca-dep.drv");
    assert!(ca_dep.is_deferred);
    assert_eq!(
        ca_dep.realisation_id(OutputName::out()).to_string(),
        "sha256:e5367c7cdb4ac33dad6c36a43ca1b46056ad0a17dfbba2f3a9cb91b8c947e322!out"
    );
}

#[test]
fn unmasked_hash_without_inputs_is_that_of_the_file() {
    let corpus = corpus();
    let path = StorePath::from_base_name("4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv").unwrap();
    let mut hashes = HashModuloCache::new(StoreDir::default());
    hashes.insert(path.clone(), &parse(&path, &corpus[&path])).unwrap();
    assert_eq!(
        hashes.get(&path).unwrap().hash.base16(),
        "1d400b9050c5e6cb464d7e32e421c195f7b07e2d73cc26c18d5c66e4d05fa4c3"
    );
}

/// Compares the JSON of every derivation that a version of Nix showed, and reads it back.
fn check_json(folder: &str, version: JsonVersion, layout: JsonLayout) -> usize {
    let store_dir = StoreDir::default();
    let mut compared = 0;
    for (path, text) in corpus() {
        let file = data("json").join(folder).join(format!("{path}.json"));
        // Not every version of Nix could show every derivation; where it failed, the file is missing or empty.
        let Some(expected) = std::fs::read(file).ok().filter(|expected| !expected.is_empty()) else {
            continue;
        };
        let derivation = parse(&path, &text);
        let mut shown = show_json([(&path, &derivation)], &store_dir, version, layout).unwrap();
        shown.push(b'\n');
        assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&expected), "{path}");
        assert_eq!(shown, expected, "{path}");
        compared += 1;
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&expected) else { continue };
        let derivations = if version == JsonVersion::V4 { &json["derivations"] } else { &json };
        let (_, object) = derivations.as_object().unwrap().iter().next().unwrap();
        let read =
            Derivation::from_json(object.as_object().unwrap(), Some(&derivation.name), &store_dir, version)
                .unwrap();
        assert_eq!(read, derivation, "{path} read back");
    }
    compared
}

#[test]
fn json_as_nix_2_8_shows_it() {
    assert_eq!(check_json("show-2.8", JsonVersion::V1, JsonLayout::Indented), 39);
}

#[test]
fn json_as_nix_2_26_shows_it() {
    assert_eq!(check_json("show-2.26", JsonVersion::V2, JsonLayout::Indented), 42);
}

#[test]
fn json_as_nix_2_34_shows_it() {
    assert_eq!(check_json("show-2.34", JsonVersion::V4, JsonLayout::Compact), 45);
}

/// No sample of the third version is at hand; it is the second with base names, a version number, and fixed outputs
/// without their paths.
#[test]
fn json_of_the_third_version() {
    let corpus = corpus();
    let json = |base_name: &str| {
        let path = StorePath::from_base_name(base_name).unwrap();
        let derivation = parse(&path, &corpus[&path]);
        serde_json::Value::Object(derivation.to_json(&StoreDir::default(), JsonVersion::V3).unwrap())
    };
    let fixed = json("crpq0809zqa54iwqwllz0k1kkd7f1h3p-fod-flat.drv");
    assert_eq!(fixed["version"], 3);
    assert_eq!(
        fixed["outputs"]["out"],
        serde_json::json!({
            "method": "flat",
            "hashAlgo": "sha256",
            "hash": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        })
    );
    let structured = json("i2n938kav7hdkdsawfjcz4l6pazkjpxb-structured.drv");
    assert_eq!(structured["structuredAttrs"]["neg"], -7);
    assert_eq!(structured["inputSrcs"], serde_json::json!([]));
    assert_eq!(
        structured["inputDrvs"],
        serde_json::json!({
            "p4rh9rh6s137h8va7x6qv8qhi9sfl5ny-dep.drv": { "outputs": ["out"], "dynamicOutputs": {} }
        })
    );
    assert_eq!(structured["outputs"]["out"]["path"], "0n46m291pws2admqwvac9g68zz8jxf15-structured");
}
