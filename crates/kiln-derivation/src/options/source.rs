//! Where options come from: the environment, or the structured attributes in its place.

use std::collections::{BTreeMap, BTreeSet};

use kiln_store_path::StorePathName;
use serde_json::{Map, Value};

use super::OptionsError;
use crate::derivation::Derivation;
use crate::structured_attrs::kind_of;

/// The attributes of a derivation.
pub(super) struct Source<'a> {
    derivation: &'a StorePathName,
    attributes: Attributes<'a>,
}

enum Attributes<'a> {
    Plain(&'a BTreeMap<Vec<u8>, Vec<u8>>),
    Structured(&'a Map<String, Value>),
}

impl<'a> Source<'a> {
    pub(super) fn new(derivation: &'a Derivation) -> Self {
        let attributes = match &derivation.structured_attrs {
            Some(attrs) => Attributes::Structured(attrs.attributes()),
            None => Attributes::Plain(&derivation.environment),
        };
        Self { derivation: &derivation.name, attributes }
    }

    pub(super) fn derivation(&self) -> &'a StorePathName {
        self.derivation
    }

    pub(super) fn is_structured(&self) -> bool {
        matches!(self.attributes, Attributes::Structured(_))
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        match self.attributes {
            Attributes::Plain(environment) => environment.contains_key(attribute.as_bytes()),
            Attributes::Structured(attributes) => attributes.contains_key(attribute),
        }
    }

    /// The value of a variable, unless the attributes are structured.
    pub(super) fn plain(&self, attribute: &str) -> Option<&'a [u8]> {
        match self.attributes {
            Attributes::Plain(environment) => environment.get(attribute.as_bytes()).map(Vec::as_slice),
            Attributes::Structured(_) => None,
        }
    }

    /// The value of an attribute, if the attributes are structured.
    pub(super) fn structured(&self, attribute: &str) -> Option<&'a Value> {
        match self.attributes {
            Attributes::Plain(_) => None,
            Attributes::Structured(attributes) => attributes.get(attribute),
        }
    }

    /// A Boolean: as a variable `1` is true and anything else false.
    pub(super) fn boolean(&self, attribute: &'static str, default: bool) -> Result<bool, OptionsError> {
        match (self.plain(attribute), self.structured(attribute)) {
            (Some(text), _) => Ok(text == b"1"),
            (_, Some(value)) => boolean(self.derivation, attribute, value),
            (None, None) => Ok(default),
        }
    }

    /// A text.
    pub(super) fn string(&self, attribute: &'static str) -> Result<Option<Vec<u8>>, OptionsError> {
        match (self.plain(attribute), self.structured(attribute)) {
            (Some(text), _) => Ok(Some(text.to_vec())),
            (_, Some(Value::String(text))) => Ok(Some(text.as_bytes().to_vec())),
            (_, Some(other)) => Err(wrong_type(self.derivation, attribute, "a string", other)),
            (None, None) => Ok(None),
        }
    }

    /// A set of texts, which is empty if the attribute is absent.
    pub(super) fn string_set(&self, attribute: &'static str) -> Result<BTreeSet<Vec<u8>>, OptionsError> {
        Ok(self.optional_string_set(attribute)?.unwrap_or_default())
    }

    /// A set of texts: as a variable its words.
    pub(super) fn optional_string_set(
        &self,
        attribute: &'static str,
    ) -> Result<Option<BTreeSet<Vec<u8>>>, OptionsError> {
        match (self.plain(attribute), self.structured(attribute)) {
            (Some(text), _) => Ok(Some(words(text).map(<[u8]>::to_vec).collect())),
            (_, Some(value)) => string_set(self.derivation, attribute, value).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// A structured attribute that is an object, with every value read by `read`; without structured attributes empty.
    pub(super) fn object_of<T>(
        &self,
        attribute: &'static str,
        read: impl Fn(&StorePathName, &str, &Value) -> Result<T, OptionsError>,
    ) -> Result<BTreeMap<&'a str, T>, OptionsError> {
        let Some(value) = self.structured(attribute) else { return Ok(BTreeMap::new()) };
        object(self.derivation, attribute, value)?
            .iter()
            .map(|(key, value)| {
                Ok((key.as_str(), read(self.derivation, &format!("{attribute}.{key}"), value)?))
            })
            .collect()
    }
}

/// The words of a variable: separated by spaces, tabs, line feeds and carriage returns.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).filter(|word| !word.is_empty())
}

/// A JSON Boolean.
pub(super) fn boolean(
    derivation: &StorePathName,
    attribute: &str,
    value: &Value,
) -> Result<bool, OptionsError> {
    value.as_bool().ok_or_else(|| wrong_type(derivation, attribute, "a Boolean", value))
}

/// A JSON number that is a size in bytes.
pub(super) fn size(derivation: &StorePathName, attribute: &str, value: &Value) -> Result<u64, OptionsError> {
    value.as_u64().ok_or_else(|| wrong_type(derivation, attribute, "an unsigned integer", value))
}

/// A JSON array of strings.
pub(super) fn string_set(
    derivation: &StorePathName,
    attribute: &str,
    value: &Value,
) -> Result<BTreeSet<Vec<u8>>, OptionsError> {
    const EXPECTED: &str = "a list of strings";
    let elements = value.as_array().ok_or_else(|| wrong_type(derivation, attribute, EXPECTED, value))?;
    elements
        .iter()
        .map(|element| match element {
            Value::String(text) => Ok(text.as_bytes().to_vec()),
            other => Err(wrong_type(derivation, attribute, EXPECTED, other)),
        })
        .collect()
}

/// A JSON object.
pub(super) fn object<'a>(
    derivation: &StorePathName,
    attribute: &str,
    value: &'a Value,
) -> Result<&'a Map<String, Value>, OptionsError> {
    value.as_object().ok_or_else(|| wrong_type(derivation, attribute, "an object", value))
}

pub(super) fn wrong_type(
    derivation: &StorePathName,
    attribute: &str,
    expected: &'static str,
    value: &Value,
) -> OptionsError {
    OptionsError::Type {
        derivation: derivation.clone(),
        attribute: attribute.into(),
        expected,
        found: kind_of(value),
    }
}
