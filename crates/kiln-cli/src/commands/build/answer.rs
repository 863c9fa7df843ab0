//! What came of a build, on standard output.

use std::fmt::Write as _;

use kiln_build::{BuildAnswer, TargetResult};
use kiln_store_path::{DerivedPath, StoreDir};
use serde_json::{Map, Value, json};

/// The paths of all outputs, one per line.
pub(super) fn paths(answer: &BuildAnswer, store_dir: &StoreDir) -> String {
    let mut lines = String::new();
    for result in answer.results.iter().filter(|result| result.result.is_success()) {
        match &result.target {
            DerivedPath::Opaque(path) => drop(writeln!(lines, "{}", store_dir.display(path))),
            DerivedPath::Built { .. } => {
                for path in result.outputs.values() {
                    let _ = writeln!(lines, "{}", store_dir.display(path));
                }
            }
        }
    }
    lines
}

/// The same as JSON: a list of `{drvPath, outputs}`, or `{path}` for what is no derivation.
pub(super) fn json(answer: &BuildAnswer, store_dir: &StoreDir) -> Value {
    answer
        .results
        .iter()
        .filter(|result| result.result.is_success())
        .map(|result| entry(result, store_dir))
        .collect()
}

fn entry(result: &TargetResult, store_dir: &StoreDir) -> Value {
    match &result.target {
        DerivedPath::Opaque(path) => json!({ "path": store_dir.print(path) }),
        DerivedPath::Built { derivation, .. } => {
            let outputs: Map<String, Value> = result
                .outputs
                .iter()
                .map(|(name, path)| (name.to_string(), store_dir.print(path).into()))
                .collect();
            json!({ "drvPath": store_dir.print(&derivation.path), "outputs": outputs })
        }
    }
}
