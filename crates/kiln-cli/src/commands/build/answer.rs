//! What came of a build, on standard output.

use std::fmt::Write as _;

use kiln_build::{BuildAnswer, Origin, PassedOver, TargetResult};
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

/// The same as JSON: a list with an object for each target, in their order. It has `drvPath` and `outputs`, or `path` for what
/// is no derivation, and the result as Nix names its parts.
pub(super) fn json(answer: &BuildAnswer, store_dir: &StoreDir) -> Value {
    answer.results.iter().map(|result| Value::Object(entry(result, store_dir))).collect()
}

fn entry(target: &TargetResult, store_dir: &StoreDir) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| drop(entry.insert(key.to_owned(), value));
    match &target.target {
        DerivedPath::Opaque(path) => put("path", store_dir.print(path).into()),
        DerivedPath::Built { derivation, .. } => {
            let outputs = target.outputs.iter();
            let outputs = outputs.map(|(name, path)| (name.to_string(), store_dir.print(path).into()));
            put("drvPath", store_dir.print(&derivation.path).into());
            put("outputs", Value::Object(outputs.collect()));
        }
    }
    let result = &target.result;
    put("success", result.is_success().into());
    put("status", result.status.name().into());
    if !result.is_success() {
        put("errorMsg", result.error_message.to_str_lossy().into());
        let tail = result.log_tail.iter().map(|line| line.to_str_lossy().into());
        put("logTail", tail.collect::<Vec<Value>>().into());
    }
    if result.times_built > 0 {
        put("timesBuilt", result.times_built.into());
        put("isNonDeterministic", result.is_non_deterministic.into());
        put("startTime", result.start_time.into());
        put("stopTime", result.stop_time.into());
    }
    for (key, time) in [("cpuUser", result.cpu_user), ("cpuSystem", result.cpu_system)] {
        if let Some(microseconds) = time {
            put(key, microseconds.into());
        }
    }
    if let Some(peak) = result.memory_peak {
        put("memoryPeak", peak.into());
    }
    if let Some(isolation) = &result.isolation {
        put("isolation", isolation.as_str().into());
    }
    if !target.origins.is_empty() {
        let origins = target.origins.iter().map(|(path, of)| (store_dir.print(path), origin(of)));
        put("origins", Value::Object(origins.collect()));
    }
    entry
}

fn origin(origin: &Origin) -> Value {
    let passed_over = origin.passed_over.iter().map(|PassedOver { substituter, reason }| {
        json!({ "substituter": substituter, "reason": reason.name(), "message": reason.to_string() })
    });
    json!({ "substituter": origin.substituter, "passedOver": passed_over.collect::<Vec<Value>>() })
}
