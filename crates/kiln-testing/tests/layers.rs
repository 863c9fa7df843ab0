//! Holds the dependency rules of `docs/architecture.md`: pure crates use pure ones, system access uses those two,
//! services use all three, programs use everything; and who may do what at all.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Pure,
    System,
    Service,
    Program,
}

const LAYERS: &[(&str, Layer)] = &[
    ("kiln-hash", Layer::Pure),
    ("kiln-store-path", Layer::Pure),
    ("kiln-derivation", Layer::Pure),
    ("kiln-nar", Layer::Pure),
    ("kiln-narinfo", Layer::Pure),
    ("kiln-protocol", Layer::Pure),
    ("kiln-settings", Layer::Pure),
    ("kiln-schedule", Layer::Pure),
    ("kiln-events", Layer::Pure),
    ("kiln-metrics", Layer::Pure),
    ("kiln-sys", Layer::System),
    ("kiln-fs", Layer::System),
    ("kiln-diff", Layer::System),
    ("kiln-database", Layer::System),
    ("kiln-http", Layer::System),
    ("kiln-builtins", Layer::System),
    ("kiln-sandbox", Layer::System),
    ("kiln-store", Layer::Service),
    ("kiln-remote", Layer::Service),
    ("kiln-substitute", Layer::Service),
    ("kiln-cache", Layer::Service),
    ("kiln-hook", Layer::Service),
    ("kiln-build", Layer::Service),
    ("kiln-daemon", Layer::Service),
    ("kiln-web", Layer::Service),
    ("kiln-serve", Layer::Service),
    ("kiln-console", Layer::Program),
    ("kiln-recipe", Layer::Program),
    ("kiln-cli", Layer::Program),
    ("kiln-testing", Layer::Program),
];

/// Services see each other only where this says so.
const SERVICES_SEEN: &[(&str, &str)] = &[
    ("kiln-substitute", "kiln-store"),
    ("kiln-substitute", "kiln-remote"),
    ("kiln-cache", "kiln-remote"),
    ("kiln-cache", "kiln-store"),
    ("kiln-cache", "kiln-substitute"),
    ("kiln-hook", "kiln-cache"),
    ("kiln-hook", "kiln-remote"),
    ("kiln-hook", "kiln-store"),
    ("kiln-hook", "kiln-substitute"),
    ("kiln-build", "kiln-remote"),
    ("kiln-build", "kiln-store"),
    ("kiln-build", "kiln-substitute"),
    ("kiln-daemon", "kiln-build"),
    ("kiln-daemon", "kiln-store"),
    ("kiln-daemon", "kiln-substitute"),
    ("kiln-daemon", "kiln-web"),
    ("kiln-serve", "kiln-store"),
    ("kiln-serve", "kiln-web"),
];

/// What pure crates may use from outside; none of it does I/O on its own.
const PURE_DEPENDENCIES: &[&str] =
    &["blake3", "ed25519-dalek", "md-5", "memchr", "serde", "serde_json", "sha1", "sha2", "thiserror"];

/// Of each crate of the workspace: what it uses, tests left out.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().expect("dependencies");
            let used = used.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), used.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

fn layer_of(name: &str) -> Option<Layer> {
    LAYERS.iter().find(|(listed, _)| *listed == name).map(|(_, layer)| *layer)
}

#[test]
fn every_crate_has_a_layer() {
    let found = dependencies();
    for name in found.keys() {
        assert!(layer_of(name).is_some(), "{name} is in no layer: add it here and to docs/architecture.md");
    }
    assert_eq!(found.len(), LAYERS.len(), "a layer lists a crate that is not there");
}

#[test]
fn crates_use_only_what_their_layer_may() {
    for (name, used) in dependencies() {
        let layer = layer_of(&name);
        for dependency in used {
            match (layer, layer_of(&dependency)) {
                (Some(Layer::Pure), None) => assert!(
                    PURE_DEPENDENCIES.contains(&dependency.as_str()),
                    "{name} is pure and may not use {dependency}"
                ),
                (Some(layer), Some(below)) => assert!(below <= layer, "{name} may not use {dependency}"),
                _ => {}
            }
            if layer == Some(Layer::Service) && layer_of(&dependency) == layer {
                assert!(
                    SERVICES_SEEN.contains(&(name.as_str(), dependency.as_str())),
                    "{name} may not see {dependency}"
                );
            }
            assert!(dependency != "kiln-testing", "{name} uses kiln-testing outside of tests");
        }
    }
}

/// `unsafe` is forbidden by the workspace's lints; only one crate may have lints of its own.
#[test]
fn only_kiln_sys_may_be_unsafe() {
    for (name, _) in LAYERS {
        let manifest = format!("{}/../{name}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let manifest = std::fs::read_to_string(manifest).expect("a manifest");
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert_eq!(inherits, *name != "kiln-sys", "{name}: lints of the workspace");
    }
}
