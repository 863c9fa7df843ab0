//! Malformed and odd derivations, and what real Nix 2.34.8 said when each was registered under the name `t`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails panics")]

use std::path::Path;

use kiln_derivation::{Derivation, HashModuloCache, Strictness, check_outputs};
use kiln_store_path::{StoreDir, StorePathName};

/// What one of the files is.
struct Case {
    file: String,
    text: Vec<u8>,
    is_accepted_by_nix: bool,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bad-drv");
    let table = std::fs::read_to_string(folder.join("results.tsv")).unwrap();
    let cases: Vec<Case> = table
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [file, _, _, newest] = columns.try_into().unwrap();
            Case {
                file: file.to_owned(),
                text: std::fs::read(folder.join(file)).unwrap(),
                is_accepted_by_nix: newest.starts_with("ACCEPT"),
            }
        })
        .collect();
    assert_eq!(cases.len(), 49, "every row of the table is there");
    cases
}

/// Reads and checks a derivation as it is done when one enters the store. None of the cases has input derivations.
fn register(text: &[u8], strictness: Strictness) -> Result<(), String> {
    let store_dir = StoreDir::default();
    let name = StorePathName::new("t").unwrap();
    let derivation =
        Derivation::parse_aterm(text, &name, &store_dir, strictness).map_err(|error| error.to_string())?;
    check_outputs(&derivation, &HashModuloCache::new(store_dir)).map_err(|error| error.to_string())
}

#[test]
fn lenient_reading_gives_nixs_verdicts() {
    for case in cases() {
        let result = register(&case.text, Strictness::Lenient);
        assert_eq!(result.is_ok(), case.is_accepted_by_nix, "{}: {result:?}", case.file);
    }
}

/// The messages of all refusals.
const MESSAGES: [(&str, &str); 27] = [
    (
        "ca-with-path.drv",
        "error parsing derivation 't' at byte 75: content-addressing derivation output should not specify output path '/nix/store/aj0ndnjjchs49vk8x5ralwx6d9f4xzj4-t'",
    ),
    (
        "deferred-unfilled.drv",
        "derivation 't' leaves the path of its output 'out' open, should be '/nix/store/wkjxz7ryhhzhbfkzv1517km14qy32hx1-t'",
    ),
    (
        "env-missing-out.drv",
        "derivation 't' has missing environment variable 'out', should be '/nix/store/aj0ndnjjchs49vk8x5ralwx6d9f4xzj4-t'",
    ),
    (
        "env-wrong-out.drv",
        "derivation 't' has incorrect environment variable 'out', should be '/nix/store/aj0ndnjjchs49vk8x5ralwx6d9f4xzj4-t' but is actually '/nix/store/00000000000000000000000000000000-t'",
    ),
    ("escape-at-end.drv", "error parsing derivation 't' at byte 187: expected string '\"'"),
    (
        "input-addressed-wrong.drv",
        "derivation 't' has incorrect output '/nix/store/00000000000000000000000000000000-t', should be '/nix/store/wkjxz7ryhhzhbfkzv1517km14qy32hx1-t'",
    ),
    (
        "input-src-not-store.drv",
        "error parsing derivation 't' at byte 158: path '/etc/passwd' is not in the Nix store '/nix/store'",
    ),
    ("input-src-relative.drv", "error parsing derivation 't' at byte 150: bad path 'foo' in derivation"),
    (
        "input-src-subpath.drv",
        "error parsing derivation 't' at byte 196: path '/nix/store/00000000000000000000000000000000-t/sub' is not in the Nix store '/nix/store'",
    ),
    (
        "json-invalid.drv",
        "error parsing derivation 't' at byte 264: cannot process __json attribute: key must be a string at line 1 column 2",
    ),
    (
        "json-not-object.drv",
        "error parsing derivation 't' at byte 258: cannot process __json attribute: expected a JSON object, found an array",
    ),
    ("list-trailing-comma.drv", "error parsing derivation 't' at byte 182: expected string '\"'"),
    ("missing-args.drv", "error parsing derivation 't' at byte 173: expected string '\"'"),
    (
        "not-a-derivation.drv",
        "error parsing derivation 't' at byte 0: derivation does not start with 'Derive' or 'DrvWithVersion'",
    ),
    (
        "output-algo-unknown.drv",
        "error parsing derivation 't' at byte 137: unknown hash algorithm 'sha3', expected one of md5, sha1, sha256, sha512, blake3",
    ),
    (
        "output-fixed-not-out.drv",
        "error parsing derivation 't' at byte 241: single fixed output must be named \"out\"",
    ),
    (
        "output-hash-no-algo.drv",
        "derivation 't' has incorrect output '/nix/store/aj0ndnjjchs49vk8x5ralwx6d9f4xzj4-t', should be '/nix/store/4gnvx5sx8chbdspqgmc944wlbm5w2civ-t'",
    ),
    (
        "output-hash-short.drv",
        "error parsing derivation 't' at byte 137: hash '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be' has wrong length for hash algorithm 'sha256'",
    ),
    (
        "output-hash-sri.drv",
        "error parsing derivation 't' at byte 126: hash 'sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=' has wrong length for hash algorithm 'sha256'",
    ),
    (
        "output-method-unknown.drv",
        "error parsing derivation 't' at byte 141: unknown hash algorithm 'q:sha256', expected one of md5, sha1, sha256, sha512, blake3",
    ),
    ("output-path-empty-fixed.drv", "error parsing derivation 't' at byte 94: bad path '' in derivation"),
    (
        "output-path-relative.drv",
        "error parsing derivation 't' at byte 138: bad path 'nix/store/00000000000000000000000000000000-t' in derivation",
    ),
    ("outputs-none.drv", "error parsing derivation 't' at byte 110: must have at least one output"),
    ("space-after-comma.drv", "error parsing derivation 't' at byte 140: expected string ',['"),
    ("truncated-in-string.drv", "error parsing derivation 't' at byte 15: unterminated string in derivation"),
    ("truncated.drv", "error parsing derivation 't' at byte 240: expected string ')'"),
    (
        "version-unknown.drv",
        "error parsing derivation 't' at byte 19: Unknown derivation ATerm format version 'v9'",
    ),
];

/// Strict reading refuses, beyond what real Nix refuses, every text that is not the only one of its meaning.
#[test]
fn strict_reading_accepts_canonical_texts_only() {
    let accepted: Vec<String> = cases()
        .into_iter()
        .filter(|case| register(&case.text, Strictness::Strict).is_ok())
        .map(|case| case.file)
        .collect();
    assert_eq!(
        accepted,
        [
            // Structured attributes keep their text, so any text of theirs is canonical.
            "json-unnormalised.drv",
            "nonutf8.drv",
            "ok-base.drv",
            "ok-input-addressed.drv",
        ]
    );
}

#[test]
fn messages_say_what_is_wrong_and_where() {
    let messages: Vec<(String, String)> = cases()
        .into_iter()
        .filter_map(|case| Some((case.file, register(&case.text, Strictness::Lenient).err()?)))
        .collect();
    let messages: Vec<(&str, &str)> =
        messages.iter().map(|(file, message)| (file.as_str(), message.as_str())).collect();
    assert_eq!(messages, MESSAGES);
}
