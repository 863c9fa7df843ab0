//! The attributes of a derivation that speak to the engine rather than to the builder, read once into one typed value.
//!
//! They come from one of two sources: environment variables, where everything is text, or structured attributes, where
//! types are checked. What a source cannot say, such as checks for a single output without structured attributes, is
//! absent.

mod output_checks;
mod references_graph;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kiln_store_path::{OutputName, StorePathName};

pub use output_checks::{IllegalReferenceSpecifier, OutputCheck, OutputChecks, ReferenceSpecifier};
pub use references_graph::{GraphRootError, ReferencesGraph};

use crate::derivation::{Derivation, DerivationKind};
use source::Source;

/// The system feature that building a derivation without known output paths takes.
const CA_DERIVATIONS: &str = "ca-derivations";

/// What a derivation asks of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// `passAsFile`: variables that the builder gets as files.
    pub pass_as_file: BTreeSet<Vec<u8>>,
    /// `exportReferencesGraph`: closures that the builder wants described.
    pub references_graphs: Vec<ReferencesGraph>,
    /// `outputChecks`, or the older attributes such as `allowedReferences`: what outputs may refer to and how large they
    /// may be.
    pub output_checks: OutputChecks,
    /// `unsafeDiscardReferences`: outputs whose references are not recorded.
    pub unsafe_discard_references: BTreeSet<OutputName>,
    /// `impureEnvVars`: variables of the engine's environment that the builder of a fixed or impure derivation sees.
    pub impure_environment_variables: BTreeSet<Vec<u8>>,
    /// `preferLocalBuild`: better built here than sent away.
    pub prefer_local_build: bool,
    /// `allowSubstitutes`: whether substituters may be asked for the outputs.
    pub allow_substitutes: bool,
    /// `requiredSystemFeatures`, and `ca-derivations` if the paths of the outputs are not known: what the machine must
    /// offer.
    pub required_system_features: BTreeSet<String>,
    /// `__noChroot`: build without a sandbox.
    pub no_chroot: bool,
    /// `__impureHostDeps`: paths of the host that the builder sees.
    pub impure_host_dependencies: BTreeSet<Vec<u8>>,
    /// `__sandboxProfile`: more rules for the sandbox of macOS.
    pub sandbox_profile: Vec<u8>,
    /// `__darwinAllowLocalNetworking`: let the sandbox of macOS use the loopback interface.
    pub allow_local_networking: bool,
    /// What was found and ignored.
    pub warnings: Vec<OptionWarning>,
}

/// An attribute without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionWarning {
    /// Structured attributes make the attribute pointless.
    Superseded {
        /// The attribute.
        attribute: &'static str,
        /// What to use in its place.
        instead: &'static str,
    },
    /// `exportReferencesGraph` among structured attributes is no object.
    ReferencesGraphNotAnObject,
}

impl fmt::Display for OptionWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded { attribute, instead } => write!(
                f,
                "'structuredAttrs' disables the effect of the top-level attribute '{attribute}'; use '{instead}' instead"
            ),
            Self::ReferencesGraphNotAnObject => {
                f.write_str("'exportReferencesGraph' in structured attrs is not a JSON object, ignoring")
            }
        }
    }
}

/// Why the options of a derivation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A structured attribute has the wrong type.
    #[error("attribute '{attribute}' of derivation '{derivation}' must be {expected}, found {found}")]
    Type {
        /// The derivation.
        derivation: StorePathName,
        /// The attribute; with dots between the keys if it lies deeper.
        attribute: String,
        /// The type that it must have.
        expected: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// A text must be UTF-8 to be compared with anything.
    #[error("attribute '{attribute}' of derivation '{derivation}' contains '{value}', which is not UTF-8")]
    NotUtf8 {
        /// The derivation.
        derivation: StorePathName,
        /// The attribute.
        attribute: &'static str,
        /// The offending text, as far as it can be shown.
        value: String,
    },
    /// `exportReferencesGraph` is not made of pairs.
    #[error("derivation '{derivation}': odd number of tokens {count} in 'exportReferencesGraph': '{value}'")]
    OddTokens {
        /// The derivation.
        derivation: StorePathName,
        /// The number of tokens.
        count: usize,
        /// The value.
        value: String,
    },
    /// A file name in `exportReferencesGraph` that could leave the build directory or hide a file of the engine.
    #[error("derivation '{derivation}': invalid file name '{name}' in 'exportReferencesGraph'")]
    GraphFileName {
        /// The derivation.
        derivation: StorePathName,
        /// The file name.
        name: String,
    },
}

impl BuildOptions {
    /// Reads the options of a derivation.
    ///
    /// # Errors
    /// See [`OptionsError`]. Environment variables hardly ever fail, structured attributes must have the right types.
    pub fn of(derivation: &Derivation) -> Result<Self, OptionsError> {
        let source = Source::new(derivation);
        let mut warnings = Vec::new();
        if source.is_structured() {
            for (attribute, instead) in SUPERSEDED {
                if source.has(attribute) {
                    warnings.push(OptionWarning::Superseded { attribute, instead });
                }
            }
        }
        Ok(Self {
            pass_as_file: if source.is_structured() {
                BTreeSet::new()
            } else {
                source.string_set("passAsFile")?
            },
            references_graphs: references_graph::read(&source, &mut warnings)?,
            output_checks: output_checks::read(&source)?,
            unsafe_discard_references: unsafe_discard_references(&source, derivation)?,
            impure_environment_variables: source.string_set("impureEnvVars")?,
            prefer_local_build: source.boolean("preferLocalBuild", false)?,
            allow_substitutes: source.boolean("allowSubstitutes", true)?,
            required_system_features: required_system_features(&source, derivation)?,
            no_chroot: source.boolean("__noChroot", false)?,
            impure_host_dependencies: source.string_set("__impureHostDeps")?,
            sandbox_profile: source.string("__sandboxProfile")?.unwrap_or_default(),
            allow_local_networking: source.boolean("__darwinAllowLocalNetworking", false)?,
            warnings,
        })
    }
}

/// Attributes that have no effect among structured attributes, and what has it.
const SUPERSEDED: [(&str, &str); 7] = [
    ("allowedReferences", "outputChecks"),
    ("allowedRequisites", "outputChecks"),
    ("disallowedReferences", "outputChecks"),
    ("disallowedRequisites", "outputChecks"),
    ("maxSize", "outputChecks"),
    ("maxClosureSize", "outputChecks"),
    ("passAsFile", ".attrs.json"),
];

fn required_system_features(
    source: &Source<'_>,
    derivation: &Derivation,
) -> Result<BTreeSet<String>, OptionsError> {
    const ATTRIBUTE: &str = "requiredSystemFeatures";
    let mut features = source
        .string_set(ATTRIBUTE)?
        .into_iter()
        .map(|feature| {
            String::from_utf8(feature).map_err(|error| OptionsError::NotUtf8 {
                derivation: derivation.name.clone(),
                attribute: ATTRIBUTE,
                value: crate::output::shown(error.as_bytes()),
            })
        })
        .collect::<Result<BTreeSet<_>, _>>()?;
    if !derivation.kind().is_ok_and(DerivationKind::has_known_paths) {
        features.insert(CA_DERIVATIONS.into());
    }
    Ok(features)
}

fn unsafe_discard_references(
    source: &Source<'_>,
    derivation: &Derivation,
) -> Result<BTreeSet<OutputName>, OptionsError> {
    const ATTRIBUTE: &str = "unsafeDiscardReferences";
    let flags: BTreeMap<&str, bool> = source.object_of(ATTRIBUTE, source::boolean)?;
    Ok(derivation
        .outputs
        .keys()
        .filter(|output| flags.get(output.as_str()) == Some(&true))
        .cloned()
        .collect())
}
