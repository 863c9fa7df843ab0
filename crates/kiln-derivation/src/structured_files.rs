//! The two files through which a builder reads structured attributes: `.attrs.json` and `.attrs.sh`.

use serde_json::{Map, Number, Value};

use crate::builder_view::BuildContext;
use crate::references_graph::graph_json;

/// The attributes with `outputs` replaced by an object of paths, and the references graphs put in under their names.
pub(crate) fn attrs_json(attributes: &Map<String, Value>, context: &BuildContext<'_>) -> Map<String, Value> {
    let mut attributes = attributes.clone();
    let outputs: Map<String, Value> = context
        .output_paths
        .iter()
        .map(|(output, path)| (output.to_string(), context.store_dir.print(path).into()))
        .collect();
    attributes.insert("outputs".into(), outputs.into());
    for (name, members) in context.references_graphs {
        attributes.insert(name.clone(), graph_json(context.store_dir, members));
    }
    attributes
}

/// Declarations for bash of all that bash can hold: strings, integers, Booleans, null, and arrays and objects of those.
/// Attributes whose names are no variable names are left out, and so are other values.
///
/// Integers are written exactly; real Nix forces them into 32 bits.
pub(crate) fn attrs_sh(attributes: &Map<String, Value>) -> String {
    let mut script = String::new();
    for (name, value) in attributes.iter().filter(|(name, _)| is_variable_name(name)) {
        let declaration = match value {
            Value::Array(elements) => elements
                .iter()
                .map(|element| Some(simple(element)? + " "))
                .collect::<Option<String>>()
                .map(|elements| format!("declare -a {name}=({elements})\n")),
            Value::Object(members) => members
                .iter()
                .map(|(key, member)| Some(format!("[{}]={} ", quoted(key), simple(member)?)))
                .collect::<Option<String>>()
                .map(|members| format!("declare -A {name}=({members})\n")),
            _ => simple(value).map(|value| format!("declare {name}={value}\n")),
        };
        script.push_str(&declaration.unwrap_or_default());
    }
    script
}

/// Whether a text matches `[A-Za-z_][A-Za-z0-9_]*`.
fn is_variable_name(name: &str) -> bool {
    let is_first = |character: char| character.is_ascii_alphabetic() || character == '_';
    name.starts_with(is_first)
        && name.chars().all(|character| is_first(character) || character.is_ascii_digit())
}

/// The value of a variable, if it is no list of values.
fn simple(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("''".into()),
        Value::Bool(true) => Some("1".into()),
        Value::Bool(false) => Some(String::new()),
        Value::String(text) => Some(quoted(text)),
        Value::Number(number) => integer(number),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number without a fraction. Like real Nix this looks at the number with the precision of 32-bit floating point, so
/// that one that is nearly an integer passes for it.
fn integer(number: &Number) -> Option<String> {
    if !number.is_f64() {
        return Some(number.to_string());
    }
    let value = number.as_f64()?;
    let rough = value as f32;
    if rough.ceil() != rough {
        return None;
    }
    let truncated = value.trunc();
    Some(if truncated == 0.0 { "0".into() } else { format!("{truncated:.0}") })
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_bash_can_hold() {
        let value = json!({
            "1st": "no variable", "a-b": "no variable", "": "no variable", "é": "no variable",
            "_ok1": "it's",
            "big": 4_294_967_296_u64, "exponent": 1e3, "minus": -2.0, "zero": -0.0,
            "fraction": 1.5, "nearly": 3.000_000_01,
            "list": [1, false, null, "x y"], "empty": [], "deep": [[1]], "halves": [0.5],
            "map": { "k'": "v", "n": true }, "none": {}, "deep_map": { "k": {} }
        });
        assert_eq!(
            attrs_sh(value.as_object().unwrap()),
            "declare _ok1='it'\\''s'\n\
             declare big=4294967296\n\
             declare -a empty=()\n\
             declare exponent=1000\n\
             declare -a list=(1  '' 'x y' )\n\
             declare -A map=(['k'\\''']='v' ['n']=1 )\n\
             declare minus=-2\n\
             declare nearly=3\n\
             declare -A none=()\n\
             declare zero=0\n"
        );
    }
}
