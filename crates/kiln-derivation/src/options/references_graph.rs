//! `exportReferencesGraph`: closures that the builder wants described.

use std::collections::BTreeSet;

use kiln_store_path::{InvalidStorePath, StoreDir, StorePath};
use serde_json::Value;

use super::source::{self, Source};
use super::{OptionWarning, OptionsError};
use crate::output::shown;

const ATTRIBUTE: &str = "exportReferencesGraph";

/// One closure that the builder wants described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferencesGraph {
    /// A file in the build directory, or with structured attributes the key whose value becomes the description.
    pub name: String,
    /// The paths whose closure it is, as texts: they may be placeholders for paths to come.
    pub roots: Vec<Vec<u8>>,
}

/// A root of a graph that is not in the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'exportReferencesGraph' contains a non-store path '{path}': {error}")]
pub struct GraphRootError {
    /// The root.
    pub path: String,
    /// What is wrong with it.
    pub error: InvalidStorePath,
}

impl ReferencesGraph {
    /// The store paths whose closure it is. A path below a store path stands for it.
    ///
    /// # Errors
    /// A root that is not in the store.
    pub fn store_paths(&self, store_dir: &StoreDir) -> Result<BTreeSet<StorePath>, GraphRootError> {
        self.roots
            .iter()
            .map(|root| match store_dir.split(root) {
                Ok((path, _)) => Ok(path),
                Err(error) => Err(GraphRootError { path: shown(root), error }),
            })
            .collect()
    }
}

/// Reads the attribute in either form.
pub(super) fn read(
    source: &Source<'_>,
    warnings: &mut Vec<OptionWarning>,
) -> Result<Vec<ReferencesGraph>, OptionsError> {
    match (source.plain(ATTRIBUTE), source.structured(ATTRIBUTE)) {
        (Some(text), _) => pairs(source, text),
        (_, Some(Value::Object(graphs))) => graphs
            .iter()
            .map(|(name, roots)| {
                Ok(ReferencesGraph { name: name.clone(), roots: flatten(source, name, roots)? })
            })
            .collect(),
        (_, Some(_)) => {
            warnings.push(OptionWarning::ReferencesGraphNotAnObject);
            Ok(Vec::new())
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// The plain form: a file name and a path by turns.
fn pairs(source: &Source<'_>, text: &[u8]) -> Result<Vec<ReferencesGraph>, OptionsError> {
    let tokens: Vec<&[u8]> = source::words(text).collect();
    let derivation = || source.derivation().clone();
    if !tokens.len().is_multiple_of(2) {
        return Err(OptionsError::OddTokens {
            derivation: derivation(),
            count: tokens.len(),
            value: shown(text),
        });
    }
    tokens
        .chunks_exact(2)
        .filter_map(|pair| <[&[u8]; 2]>::try_from(pair).ok())
        .map(|[name, path]| match file_name(name) {
            Some(name) => Ok(ReferencesGraph { name, roots: vec![path.to_vec()] }),
            None => Err(OptionsError::GraphFileName { derivation: derivation(), name: shown(name) }),
        })
        .collect()
}

/// A name that matches `[A-Za-z_][A-Za-z0-9_.-]*`, so that it can neither leave the build directory nor hide a file that
/// the engine puts there.
fn file_name(name: &[u8]) -> Option<String> {
    let (first, rest) = name.split_first()?;
    let is_first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let is_further = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    (is_first(first) && rest.iter().all(is_further)).then(|| String::from_utf8_lossy(name).into_owned())
}

/// A string, or an array of strings and of such arrays.
fn flatten(source: &Source<'_>, name: &str, roots: &Value) -> Result<Vec<Vec<u8>>, OptionsError> {
    let mut texts = Vec::new();
    let mut pending = vec![roots];
    while let Some(value) = pending.pop() {
        match value {
            Value::String(text) => texts.push(text.as_bytes().to_vec()),
            Value::Array(elements) => pending.extend(elements.iter().rev()),
            other => {
                let attribute = format!("{ATTRIBUTE}.{name}");
                return Err(source::wrong_type(
                    source.derivation(),
                    &attribute,
                    "a string or an array of strings",
                    other,
                ));
            }
        }
    }
    Ok(texts)
}
