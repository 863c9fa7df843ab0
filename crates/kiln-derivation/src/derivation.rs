//! The derivation itself: what to build, from what, and which outputs come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};

use kiln_hash::Algorithm;
use kiln_store_path::{ContentAddress, ContentAddressMethod, OutputName, StorePath, StorePathName};

use crate::input_outputs::InputOutputs;
use crate::output::DerivationOutput;
use crate::structured_attrs::{STRUCTURED_ATTRS_VARIABLE, StructuredAttrs, StructuredAttrsError};

/// What the name of a derivation's file ends in.
pub const DERIVATION_SUFFIX: &str = ".drv";

/// A derivation.
///
/// The fields are plain data and can be put together freely; [`Self::kind`] tells whether the outputs make sense
/// together, [`check_outputs`](crate::check_outputs) whether their paths are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    /// The name, which is not in the file: the name of its store path without `.drv`.
    pub name: StorePathName,
    /// The outputs; at least one.
    pub outputs: BTreeMap<OutputName, DerivationOutput>,
    /// The derivations whose outputs are used, and which of them.
    pub input_derivations: BTreeMap<StorePath, InputOutputs>,
    /// The store paths that are used directly.
    pub input_sources: BTreeSet<StorePath>,
    /// The system to build on, such as `x86_64-linux`.
    pub system: Vec<u8>,
    /// The program that builds, or `builtin:NAME`.
    pub builder: Vec<u8>,
    /// The arguments of the builder, without its own name.
    pub arguments: Vec<Vec<u8>>,
    /// The environment variables, without the one that holds the structured attributes.
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The structured attributes, which are written as the variable `__json`.
    pub structured_attrs: Option<StructuredAttrs>,
}

/// What all outputs of a derivation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivationKind {
    /// Paths follow from the derivation.
    InputAddressed,
    /// Paths will follow from the derivation once those of its inputs are known.
    Deferred,
    /// One output `out`, whose content is known in advance.
    Fixed,
    /// Paths follow from the content.
    Floating,
    /// Paths follow from the content, which differs each time.
    Impure,
}

impl DerivationKind {
    /// Whether the paths of the outputs are known before the build.
    pub const fn has_known_paths(self) -> bool {
        matches!(self, Self::InputAddressed | Self::Fixed)
    }

    /// Whether the builder may use the network and see the variables of `impureEnvVars`.
    pub const fn may_be_impure(self) -> bool {
        matches!(self, Self::Fixed | Self::Impure)
    }
}

/// Outputs that do not make sense together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// There is no output.
    #[error("must have at least one output")]
    NoOutputs,
    /// Outputs of different kinds.
    #[error("can't mix derivation output types")]
    Mixed,
    /// More than one output with known content.
    #[error("only one fixed output is allowed for now")]
    SeveralFixed,
    /// An output with known content that is not `out`.
    #[error("single fixed output must be named \"out\"")]
    FixedNotOut,
    /// Floating outputs with different algorithms.
    #[error("all floating outputs must use the same hash algorithm")]
    FloatingAlgorithms,
}

/// An experimental feature of Nix that a derivation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExperimentalFeature {
    /// Floating and deferred outputs.
    CaDerivations,
    /// Outputs of outputs, and outputs hashed as text.
    DynamicDerivations,
    /// Impure outputs.
    ImpureDerivations,
    /// Outputs hashed as Git objects.
    GitHashing,
    /// Outputs hashed with BLAKE3.
    Blake3Hashes,
}

impl ExperimentalFeature {
    /// The name in the setting `experimental-features`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CaDerivations => "ca-derivations",
            Self::DynamicDerivations => "dynamic-derivations",
            Self::ImpureDerivations => "impure-derivations",
            Self::GitHashing => "git-hashing",
            Self::Blake3Hashes => "blake3-hashes",
        }
    }
}

/// A store path that is no derivation's, because it does not end in `.drv` after a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("store path '{0}' is not a derivation: its name does not end in '{DERIVATION_SUFFIX}'")]
pub struct NotADerivation(pub StorePath);

impl Derivation {
    /// The name of the derivation that a store path holds.
    ///
    /// # Errors
    /// The path is not that of a derivation.
    pub fn name_of_path(path: &StorePath) -> Result<StorePathName, NotADerivation> {
        path.name()
            .strip_suffix(DERIVATION_SUFFIX)
            .and_then(|name| StorePathName::new(name).ok())
            .ok_or_else(|| NotADerivation(path.clone()))
    }

    /// What the outputs are.
    ///
    /// # Errors
    /// They may not make sense together: see [`KindError`].
    pub fn kind(&self) -> Result<DerivationKind, KindError> {
        let kind_of = |output: &DerivationOutput| match output {
            DerivationOutput::InputAddressed(_) => DerivationKind::InputAddressed,
            DerivationOutput::Fixed { .. } => DerivationKind::Fixed,
            DerivationOutput::Floating { .. } => DerivationKind::Floating,
            DerivationOutput::Deferred => DerivationKind::Deferred,
            DerivationOutput::Impure { .. } => DerivationKind::Impure,
        };
        let (first_name, first) = self.outputs.first_key_value().ok_or(KindError::NoOutputs)?;
        let kind = kind_of(first);
        if self.outputs.values().any(|output| kind_of(output) != kind) {
            return Err(KindError::Mixed);
        }
        match kind {
            DerivationKind::Fixed if self.outputs.len() > 1 => Err(KindError::SeveralFixed),
            DerivationKind::Fixed if !first_name.is_out() => Err(KindError::FixedNotOut),
            DerivationKind::Floating if self.algorithms().len() > 1 => Err(KindError::FloatingAlgorithms),
            _ => Ok(kind),
        }
    }

    fn algorithms(&self) -> BTreeSet<Algorithm> {
        self.outputs
            .values()
            .filter_map(DerivationOutput::content_addressing)
            .map(|(_, algorithm)| algorithm)
            .collect()
    }

    /// The content address and path of the output, if this is a fixed-output derivation.
    pub fn fixed_output(&self) -> Option<(&ContentAddress, &StorePath)> {
        self.outputs.values().find_map(|output| match output {
            DerivationOutput::Fixed { address, path } => Some((address, path)),
            _ => None,
        })
    }

    /// The paths of the outputs, as far as they are known before the build.
    pub fn known_output_paths(&self) -> impl Iterator<Item = (&OutputName, &StorePath)> {
        self.outputs.iter().filter_map(|(name, output)| Some((name, output.path()?)))
    }

    /// Whether the derivation is a builtin of the engine rather than a program.
    pub fn is_builtin(&self) -> bool {
        self.builder.starts_with(b"builtin:")
    }

    /// Whether outputs of outputs are used, which only `DrvWithVersion` files can say.
    pub fn has_dynamic_inputs(&self) -> bool {
        self.input_derivations.values().any(InputOutputs::is_dynamic)
    }

    /// What the derivation's file refers to: its sources and its input derivations.
    pub fn references(&self) -> BTreeSet<StorePath> {
        self.input_sources.iter().chain(self.input_derivations.keys()).cloned().collect()
    }

    /// The environment as it is written: with the structured attributes as the variable `__json`, in bytewise order.
    pub fn written_environment(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let json = STRUCTURED_ATTRS_VARIABLE.as_bytes();
        let before = self
            .environment
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(json)))
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        let after = self
            .environment
            .range::<[u8], _>((Bound::Included(json), Bound::Unbounded))
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        let structured = self.structured_attrs.as_ref().map(|attrs| (json, attrs.text().as_bytes()));
        before.chain(structured).chain(after)
    }

    /// Takes over an environment as it is written: the variable `__json`, if there, becomes the structured attributes.
    ///
    /// # Errors
    /// The variable `__json` holds something other than a JSON object.
    pub fn set_written_environment(
        &mut self,
        mut environment: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), StructuredAttrsError> {
        let json = environment.remove(STRUCTURED_ATTRS_VARIABLE.as_bytes());
        self.structured_attrs = json.map(|text| StructuredAttrs::parse(&text)).transpose()?;
        self.environment = environment;
        Ok(())
    }

    /// The experimental features of Nix without which it refuses this derivation.
    pub fn experimental_features(&self) -> BTreeSet<ExperimentalFeature> {
        let mut features = BTreeSet::new();
        for output in self.outputs.values() {
            match output {
                DerivationOutput::Floating { .. } | DerivationOutput::Deferred => {
                    features.insert(ExperimentalFeature::CaDerivations);
                }
                DerivationOutput::Impure { .. } => {
                    features.insert(ExperimentalFeature::ImpureDerivations);
                }
                DerivationOutput::InputAddressed(_) | DerivationOutput::Fixed { .. } => {}
            }
            let Some((method, algorithm)) = output.content_addressing() else { continue };
            match method {
                ContentAddressMethod::Text => drop(features.insert(ExperimentalFeature::DynamicDerivations)),
                ContentAddressMethod::Git => drop(features.insert(ExperimentalFeature::GitHashing)),
                ContentAddressMethod::Flat | ContentAddressMethod::Nar => {}
            }
            if algorithm == Algorithm::Blake3 {
                features.insert(ExperimentalFeature::Blake3Hashes);
            }
        }
        if self.has_dynamic_inputs() {
            features.insert(ExperimentalFeature::DynamicDerivations);
        }
        features
    }
}

/// A derivation without input derivations: all its inputs are store paths (Nix: `BasicDerivation`, the worker protocol's
/// BuildDerivation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicDerivation(Derivation);

/// A derivation that still has input derivations where none are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("derivation '{0}' has input derivations and is not a basic derivation")]
pub struct HasInputDerivations(pub StorePathName);

impl BasicDerivation {
    /// Takes a derivation that has no input derivations.
    ///
    /// # Errors
    /// It has some.
    pub fn new(derivation: Derivation) -> Result<Self, HasInputDerivations> {
        if derivation.input_derivations.is_empty() {
            Ok(Self(derivation))
        } else {
            Err(HasInputDerivations(derivation.name))
        }
    }

    /// Drops the input derivations of a derivation that has been resolved.
    pub(crate) fn without_inputs(derivation: Derivation) -> Self {
        Self(Derivation { input_derivations: BTreeMap::new(), ..derivation })
    }

    /// The derivation.
    pub fn into_derivation(self) -> Derivation {
        self.0
    }
}

impl Deref for BasicDerivation {
    type Target = Derivation;

    fn deref(&self) -> &Derivation {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use kiln_hash::Hash;
    use kiln_store_path::StoreDir;

    use super::*;

    fn derivation(outputs: &[(&str, DerivationOutput)]) -> Derivation {
        Derivation {
            name: StorePathName::new("t").unwrap(),
            outputs: outputs.iter().map(|(name, output)| (name.parse().unwrap(), output.clone())).collect(),
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
            system: Vec::new(),
            builder: Vec::new(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            structured_attrs: None,
        }
    }

    fn fixed(output: &str) -> DerivationOutput {
        let address =
            ContentAddress { method: ContentAddressMethod::Flat, hash: Hash::of(Algorithm::Blake3, "x") };
        let name = StorePathName::new("t").unwrap();
        DerivationOutput::fixed(&StoreDir::default(), &name, &output.parse().unwrap(), address).unwrap()
    }

    fn floating(method: ContentAddressMethod, algorithm: Algorithm) -> DerivationOutput {
        DerivationOutput::Floating { method, algorithm }
    }

    #[test]
    fn outputs_that_go_together() {
        use ContentAddressMethod::{Flat, Nar};
        let impure = |algorithm| DerivationOutput::Impure { method: Nar, algorithm };
        for (outputs, kind) in [
            (&[][..], Err(KindError::NoOutputs)),
            (&[("out", fixed("out"))], Ok(DerivationKind::Fixed)),
            (&[("dev", fixed("dev"))], Err(KindError::FixedNotOut)),
            (&[("dev", fixed("dev")), ("out", fixed("out"))], Err(KindError::SeveralFixed)),
            (&[("dev", DerivationOutput::Deferred), ("out", fixed("out"))], Err(KindError::Mixed)),
            (&[("dev", DerivationOutput::Deferred)], Ok(DerivationKind::Deferred)),
            (
                &[("a", floating(Nar, Algorithm::Sha256)), ("b", floating(Flat, Algorithm::Sha256))],
                Ok(DerivationKind::Floating),
            ),
            (
                &[("a", floating(Nar, Algorithm::Sha256)), ("b", floating(Nar, Algorithm::Sha1))],
                Err(KindError::FloatingAlgorithms),
            ),
            (&[("a", impure(Algorithm::Sha1)), ("b", impure(Algorithm::Sha256))], Ok(DerivationKind::Impure)),
        ] {
            assert_eq!(derivation(outputs).kind(), kind, "{outputs:?}");
        }
    }

    #[test]
    fn experimental_features() {
        let features = |output| {
            let features = derivation(&[("out", output)]).experimental_features();
            features.into_iter().map(ExperimentalFeature::name).collect::<Vec<_>>()
        };
        assert_eq!(features(DerivationOutput::Deferred), ["ca-derivations"]);
        assert_eq!(features(fixed("out")), ["blake3-hashes"]);
        assert_eq!(
            features(floating(ContentAddressMethod::Text, Algorithm::Sha256)),
            ["ca-derivations", "dynamic-derivations"]
        );
        assert_eq!(
            features(DerivationOutput::Impure {
                method: ContentAddressMethod::Git,
                algorithm: Algorithm::Sha1
            }),
            ["impure-derivations", "git-hashing"]
        );
        let mut dynamic = derivation(&[("out", fixed("out"))]);
        let mut used = InputOutputs::default();
        used.insert_dynamic(OutputName::out(), InputOutputs::default()).unwrap();
        dynamic.input_derivations.insert("00000000000000000000000000000000-t.drv".parse().unwrap(), used);
        assert!(dynamic.experimental_features().contains(&ExperimentalFeature::DynamicDerivations));
    }

    #[test]
    fn names_come_from_paths() {
        let name = |base_name: &str| Derivation::name_of_path(&base_name.parse().unwrap());
        assert_eq!(name("00000000000000000000000000000000-a.drv.drv").unwrap().as_str(), "a.drv");
        assert!(name("00000000000000000000000000000000-a").is_err());
        assert!(name("00000000000000000000000000000000-.drv").is_err());
    }

    #[test]
    fn structured_attributes_are_a_variable_in_its_place() {
        let mut derivation = derivation(&[("out", fixed("out"))]);
        let variables = [("A", ""), ("__json", r#"{"x": 1}"#), ("out", "")];
        let environment: BTreeMap<Vec<u8>, Vec<u8>> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        derivation.set_written_environment(environment).unwrap();
        assert!(derivation.structured_attrs.is_some());
        assert_eq!(derivation.environment.len(), 2);
        let written: Vec<_> = derivation.written_environment().collect();
        assert_eq!(written, variables.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        // The variable cannot be there twice.
        derivation.environment.insert(b"__json".to_vec(), b"{}".to_vec());
        assert!(derivation.to_aterm(&StoreDir::default()).is_err());
    }

    #[test]
    fn basic_derivations_have_no_input_derivations() {
        let mut derivation = derivation(&[("out", fixed("out"))]);
        assert!(BasicDerivation::new(derivation.clone()).is_ok());
        let path = "00000000000000000000000000000000-a.drv".parse().unwrap();
        derivation.input_derivations.insert(path, InputOutputs::default());
        assert_eq!(BasicDerivation::new(derivation.clone()), Err(HasInputDerivations(derivation.name)));
    }
}
