//! From a recipe's values to the strings and the JSON of derivations, as Nix's evaluator coerces its own values.
//!
//! | value | variable or argument | structured attributes |
//! |---|---|---|
//! | string | itself | string |
//! | true, false | `1`, empty | Boolean |
//! | integer | decimal | number |
//! | floating-point number | with six decimals | number |
//! | array | elements, one space between them | array |
//! | table | none | object |
//! | source, output | path | path, as a string |

use serde_json::Value as Json;
use toml::Spanned;

use crate::interpolation::{Reference, Segment};
use crate::syntax::Value;

/// Gives the text that stands for what a value refers to: a path or a placeholder.
pub(crate) trait Referents {
    /// The text for a reference.
    fn reference(&mut self, reference: &Reference) -> String;
    /// The text for a source within a value.
    fn inline_source(&mut self, index: usize) -> String;
}

/// The string that stands for a value as a variable, an argument or the builder.
pub(crate) fn to_text(value: &Spanned<Value>, referents: &mut impl Referents) -> String {
    let mut text = String::new();
    append(&mut text, value.get_ref(), referents);
    text
}

/// Recurses into arrays, which are nested no deeper than the parser allows.
fn append(text: &mut String, value: &Value, referents: &mut impl Referents) {
    match value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                append(text, item.get_ref(), referents);
                // No space after an empty list: so does Nix.
                let is_empty = matches!(item.get_ref(), Value::List(items) if items.is_empty());
                if index + 1 < items.len() && !is_empty {
                    text.push(' ');
                }
            }
        }
        Value::Boolean(true) => text.push('1'),
        // Tables are only in structured attributes, as the parser sees to.
        Value::Boolean(false) | Value::Table(_) => {}
        Value::Integer(integer) => text.push_str(&integer.to_string()),
        Value::Float(float) => text.push_str(&format!("{float:.6}")),
        Value::Text(template) => {
            for segment in &template.segments {
                match segment {
                    Segment::Literal(literal) => text.push_str(literal),
                    Segment::Interpolation(found) => text.push_str(&referents.reference(&found.reference)),
                }
            }
        }
        Value::Reference(reference) => text.push_str(&referents.reference(reference)),
        Value::InlineSource(index) => text.push_str(&referents.inline_source(*index)),
    }
}

/// The JSON of a value among structured attributes. Recurses as deep as the parser allows.
pub(crate) fn to_json(value: &Spanned<Value>, referents: &mut impl Referents) -> Json {
    match value.get_ref() {
        Value::Integer(integer) => Json::from(*integer),
        Value::Float(float) => Json::from(*float),
        Value::Boolean(boolean) => Json::from(*boolean),
        Value::List(items) => items.iter().map(|item| to_json(item, referents)).collect(),
        Value::Table(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), to_json(value, referents))).collect()
        }
        Value::Text(_) | Value::Reference(_) | Value::InlineSource(_) => {
            Json::from(to_text(value, referents))
        }
    }
}
