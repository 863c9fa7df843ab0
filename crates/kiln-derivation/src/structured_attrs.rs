//! Structured attributes: the JSON object that a derivation carries in the variable `__json`.
//!
//! A derivation is hashed as it is written, so the text is kept beside the parsed object. Texts made by an evaluator
//! are canonical ([`canonical_json`]), and so is any text made here; a text that came from elsewhere stays as it is.
//! (Nix 2.30 and later dump the object afresh whenever they write or hash a derivation; for canonical texts that is
//! the same, for others only older versions and Kiln agree with the text.)

use serde_json::{Map, Value};

use crate::canonical_json::canonical_json;

/// The environment variable that holds the object.
pub const STRUCTURED_ATTRS_VARIABLE: &str = "__json";

/// The attributes of a derivation as a JSON object, together with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructuredAttrs {
    text: String,
    attributes: Map<String, Value>,
}

/// Why the value of `__json` holds no structured attributes.
#[derive(Debug, thiserror::Error)]
pub enum StructuredAttrsError {
    /// The text is not JSON in UTF-8, or nested deeper than 128 levels.
    #[error("cannot process __json attribute: {0}")]
    Json(#[from] serde_json::Error),
    /// The text is some other JSON value.
    #[error("cannot process __json attribute: expected a JSON object, found {0}")]
    NotAnObject(&'static str),
}

impl StructuredAttrs {
    /// Parses the value of `__json`.
    ///
    /// # Errors
    /// Anything but a JSON object.
    pub fn parse(text: &[u8]) -> Result<Self, StructuredAttrsError> {
        let value: Value = serde_json::from_slice(text)?;
        let attributes = match value {
            Value::Object(attributes) => attributes,
            other => return Err(StructuredAttrsError::NotAnObject(kind_of(&other))),
        };
        // What parses as JSON is UTF-8, so nothing is lost.
        Ok(Self { text: String::from_utf8_lossy(text).into_owned(), attributes })
    }

    /// Structured attributes with canonical text.
    pub fn from_attributes(attributes: Map<String, Value>) -> Self {
        Self { text: canonical_json(&attributes), attributes }
    }

    /// The text, as the derivation's file holds it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The attributes.
    pub fn attributes(&self) -> &Map<String, Value> {
        &self.attributes
    }

    /// Whether the text is the canonical one of the object.
    pub fn is_canonical(&self) -> bool {
        self.text == canonical_json(&self.attributes)
    }
}

/// What kind of JSON value this is, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a Boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_text_as_it_is() {
        let attrs = StructuredAttrs::parse(br#"{ "b": 1, "a": 2 }"#).unwrap();
        assert_eq!(attrs.text(), r#"{ "b": 1, "a": 2 }"#);
        assert!(!attrs.is_canonical());
        let canonical = StructuredAttrs::from_attributes(attrs.attributes().clone());
        assert_eq!(canonical.text(), r#"{"a":2,"b":1}"#);
        assert!(canonical.is_canonical());
    }

    #[test]
    fn refuses_what_is_no_object() {
        for text in [&b""[..], b"{", b"[]", b"3", b"null", b"{} x", b"{\"a\":1,}", b"{\"a\":\"\xff\"}"] {
            assert!(StructuredAttrs::parse(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
        let deep = [b"{\"a\":".as_slice(), &b"[".repeat(100_000)].concat();
        assert!(StructuredAttrs::parse(&deep).is_err(), "deep nesting is refused, not recursed into");
    }
}
