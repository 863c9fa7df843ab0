//! What outputs may refer to, and how large they may be.

use std::collections::{BTreeMap, BTreeSet};

use kiln_store_path::{OutputName, StoreDir, StorePath, StorePathName};
use serde_json::Value;

use super::OptionsError;
use super::source::{self, Source};
use crate::derivation::Derivation;
use crate::output::shown;

/// The checks of a derivation's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputChecks {
    /// The same for all outputs: attributes such as `allowedReferences`.
    ForAllOutputs(OutputCheck),
    /// For some outputs: the structured attribute `outputChecks`. Other outputs are not checked.
    PerOutput(BTreeMap<String, OutputCheck>),
}

/// The checks of one output. The elements of the lists are texts until [`ReferenceSpecifier::parse`] tells what they mean,
/// since they may hold placeholders that stand for paths to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputCheck {
    /// Whether the output itself counts as one of its requisites.
    pub counts_itself_as_requisite: bool,
    /// The largest NAR size in bytes.
    pub max_size: Option<u64>,
    /// The largest sum of the NAR sizes of the closure in bytes.
    pub max_closure_size: Option<u64>,
    /// All that the output may refer to.
    pub allowed_references: Option<BTreeSet<Vec<u8>>>,
    /// All that the closure of the output may hold.
    pub allowed_requisites: Option<BTreeSet<Vec<u8>>>,
    /// What the output must not refer to.
    pub disallowed_references: BTreeSet<Vec<u8>>,
    /// What the closure of the output must not hold.
    pub disallowed_requisites: BTreeSet<Vec<u8>>,
}

impl OutputChecks {
    /// The checks of one output.
    pub fn of(&self, output: &OutputName) -> Option<&OutputCheck> {
        match self {
            Self::ForAllOutputs(check) => Some(check),
            Self::PerOutput(checks) => checks.get(output.as_str()),
        }
    }
}

/// What an element of a check's list means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReferenceSpecifier {
    /// This path.
    Path(StorePath),
    /// The path of this output of the derivation.
    Output(OutputName),
}

/// An element of a check's list that is neither a store path nor an output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "derivation contains an illegal reference specifier '{specifier}': expected a store path or an output of '{derivation}'"
)]
pub struct IllegalReferenceSpecifier {
    /// The derivation.
    pub derivation: StorePathName,
    /// The element.
    pub specifier: String,
}

impl ReferenceSpecifier {
    /// Tells what an element means: a store path, or else the name of an output.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(
        specifier: &[u8],
        derivation: &Derivation,
        store_dir: &StoreDir,
    ) -> Result<Self, IllegalReferenceSpecifier> {
        if let Ok(path) = store_dir.parse(specifier) {
            return Ok(Self::Path(path));
        }
        let output =
            std::str::from_utf8(specifier).ok().and_then(|name| derivation.outputs.get_key_value(name));
        output.map(|(name, _)| Self::Output(name.clone())).ok_or_else(|| IllegalReferenceSpecifier {
            derivation: derivation.name.clone(),
            specifier: shown(specifier),
        })
    }
}

/// Reads the checks from whichever attributes hold them.
pub(super) fn read(source: &Source<'_>) -> Result<OutputChecks, OptionsError> {
    if source.is_structured() {
        let checks = source.object_of("outputChecks", structured)?;
        return Ok(OutputChecks::PerOutput(
            checks.into_iter().map(|(output, check)| (output.to_owned(), check)).collect(),
        ));
    }
    Ok(OutputChecks::ForAllOutputs(OutputCheck {
        counts_itself_as_requisite: false,
        max_size: None,
        max_closure_size: None,
        allowed_references: source.optional_string_set("allowedReferences")?,
        allowed_requisites: source.optional_string_set("allowedRequisites")?,
        disallowed_references: source.string_set("disallowedReferences")?,
        disallowed_requisites: source.string_set("disallowedRequisites")?,
    }))
}

/// One value of `outputChecks`.
fn structured(
    derivation: &StorePathName,
    attribute: &str,
    value: &Value,
) -> Result<OutputCheck, OptionsError> {
    let checks = source::object(derivation, attribute, value)?;
    let size = |name: &str| {
        checks
            .get(name)
            .map(|value| source::size(derivation, &format!("{attribute}.{name}"), value))
            .transpose()
    };
    let list = |name: &str| {
        checks
            .get(name)
            .map(|value| source::string_set(derivation, &format!("{attribute}.{name}"), value))
            .transpose()
    };
    Ok(OutputCheck {
        counts_itself_as_requisite: true,
        max_size: size("maxSize")?,
        max_closure_size: size("maxClosureSize")?,
        allowed_references: list("allowedReferences")?,
        allowed_requisites: list("allowedRequisites")?,
        disallowed_references: list("disallowedReferences")?.unwrap_or_default(),
        disallowed_requisites: list("disallowedRequisites")?.unwrap_or_default(),
    })
}
