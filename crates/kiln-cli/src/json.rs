//! Results as JSON.

use clap::{Arg, ArgAction};
use serde_json::Value;

/// The flag `--json`.
pub(crate) fn argument() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")
}

/// A value as lines of indented JSON.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
