//! A derivation as it is described, before its outputs have paths: what an evaluator hands to `derivationStrict`.
//!
//! Filling it in gives, bit for bit, what `nix-instantiate` makes of the same attributes.

use std::collections::{BTreeMap, BTreeSet};

use kiln_hash::{Algorithm, Hash, ParseHashError, UnknownAlgorithm};
use kiln_store_path::{
    ContentAddress, ContentAddressMethod, MakePathError, OutputName, Placeholder, StorePath, StorePathName,
};
use serde_json::{Map, Value};

use crate::derivation::{DERIVATION_SUFFIX, Derivation};
use crate::hash_modulo::HashModuloCache;
use crate::input_outputs::InputOutputs;
use crate::output::DerivationOutput;
use crate::output_paths::{OutputPathError, fill_in_outputs};
use crate::structured_attrs::{STRUCTURED_ATTRS_VARIABLE, StructuredAttrs};

type Environment = BTreeMap<Vec<u8>, Vec<u8>>;

/// Attributes that are stated by fields of [`UnfilledDerivation`] and nowhere else.
const RESERVED: [&str; 9] = [
    "name",
    "system",
    "builder",
    "args",
    "outputs",
    "outputHash",
    "outputHashAlgo",
    "outputHashMode",
    STRUCTURED_ATTRS_VARIABLE,
];

/// A derivation whose outputs have no paths yet.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfilledDerivation {
    /// The name.
    pub name: StorePathName,
    /// The system to build on.
    pub system: Vec<u8>,
    /// The program that builds.
    pub builder: Vec<u8>,
    /// Its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// The outputs in the order of their description, the default one first; `None` if they are not described, which
    /// means `out` and differs from it in the hash.
    pub outputs: Option<Vec<OutputName>>,
    /// How the outputs get their paths.
    pub addressing: Addressing,
    /// All other attributes.
    pub attributes: Attributes,
    /// The derivations whose outputs are used, and which of them.
    pub input_derivations: BTreeMap<StorePath, InputOutputs>,
    /// The store paths that are used directly.
    pub input_sources: BTreeSet<StorePath>,
}

/// How the outputs of a derivation get their paths. The texts are kept as they are described, since they become
/// attributes of the derivation and so take part in its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// By the derivation.
    #[default]
    InputAddressed,
    /// By the known content of the one output `out`.
    Fixed {
        /// `outputHash` in any encoding; empty for a hash of zeros, to be told the right one by the failing build.
        hash: String,
        /// `outputHashAlgo`, if the hash does not say.
        algorithm: Option<String>,
        /// `outputHashMode`; `flat` if not given.
        mode: Option<String>,
    },
    /// By the content after the build (`__contentAddressed`).
    Floating {
        /// `outputHashAlgo`; `sha256` if not given.
        algorithm: Option<String>,
        /// `outputHashMode`; `nar` if not given.
        mode: Option<String>,
    },
    /// By the content after each build (`__impure`).
    Impure {
        /// `outputHashAlgo`; `sha256` if not given.
        algorithm: Option<String>,
        /// `outputHashMode`; `nar` if not given.
        mode: Option<String>,
    },
}

/// The attributes of a derivation beside those that every derivation has.
#[derive(Clone, Debug, PartialEq)]
pub enum Attributes {
    /// Environment variables of the builder.
    Plain(BTreeMap<Vec<u8>, Vec<u8>>),
    /// JSON (`__structuredAttrs`).
    Structured(Map<String, Value>),
}

/// Why a description makes no derivation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("derivation '{derivation}': {kind}")]
pub struct UnfilledError {
    /// The derivation.
    pub derivation: StorePathName,
    /// What is wrong with its description.
    pub kind: Box<UnfilledErrorKind>,
}

/// What can be wrong with the description of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfilledErrorKind {
    /// An empty list of outputs.
    #[error("derivation cannot have an empty set of outputs")]
    NoOutputs,
    /// An output that is named twice.
    #[error("duplicate derivation output '{0}'")]
    DuplicateOutput(OutputName),
    /// An output of this name would hide the path of the derivation.
    #[error("invalid derivation output name 'drvPath'")]
    OutputDrvPath,
    /// A fixed-output derivation with other outputs than `out`.
    #[error("multiple outputs are not supported in fixed-output derivations")]
    FixedOutputs,
    /// A name that ends like that of a derivation file.
    #[error(
        "derivation names are allowed to end in '{DERIVATION_SUFFIX}' only if they produce a single derivation file"
    )]
    DerivationSuffix,
    /// An attribute that has a field of its own.
    #[error("attribute '{0}' must not be among the other attributes")]
    ReservedAttribute(&'static str),
    /// The value of `outputHashMode` is unknown.
    #[error("invalid value '{0}' for 'outputHashMode' attribute")]
    Mode(String),
    /// The value of `outputHashAlgo` is unknown.
    #[error("attribute 'outputHashAlgo': {0}")]
    Algorithm(#[from] UnknownAlgorithm),
    /// The value of `outputHash` is no hash.
    #[error("attribute 'outputHash': {0}")]
    Hash(#[from] ParseHashError),
    /// The fixed output has no path.
    #[error(transparent)]
    MakePath(#[from] MakePathError),
    /// An attribute that JSON cannot hold, which is UTF-8.
    #[error("attribute '{0}' is not UTF-8, but the derivation has structured attributes")]
    NotUtf8(&'static str),
    /// The paths of the outputs cannot be computed.
    #[error(transparent)]
    OutputPath(#[from] OutputPathError),
}

impl UnfilledDerivation {
    /// The derivation with the paths of its outputs, as far as they can be known. Its input derivations must be known to
    /// `hashes`.
    ///
    /// # Errors
    /// See [`UnfilledErrorKind`].
    pub fn fill_in(self, hashes: &HashModuloCache) -> Result<Derivation, UnfilledError> {
        let name = self.name.clone();
        self.fill(hashes).map_err(|kind| UnfilledError { derivation: name, kind: Box::new(kind) })
    }

    fn fill(self, hashes: &HashModuloCache) -> Result<Derivation, UnfilledErrorKind> {
        let names = self.output_names()?;
        let description = self.describe_output(&names, hashes)?;
        let (environment, structured_attrs) = self.environment()?;
        let mut derivation = Derivation {
            name: self.name,
            outputs: names.iter().map(|name| (name.clone(), description.clone())).collect(),
            input_derivations: self.input_derivations,
            input_sources: self.input_sources,
            system: self.system,
            builder: self.builder,
            arguments: self.arguments,
            environment,
            structured_attrs,
        };
        for output in names {
            // The variables of the outputs take part in the hash, so they must be there before it is computed.
            let value = match &description {
                DerivationOutput::Fixed { path, .. } => hashes.store_dir().print(path),
                DerivationOutput::Floating { .. } | DerivationOutput::Impure { .. } => {
                    Placeholder::own_output(&output).to_string()
                }
                DerivationOutput::Deferred | DerivationOutput::InputAddressed(_) => String::new(),
            };
            derivation.environment.insert(output.as_str().into(), value.into_bytes());
        }
        fill_in_outputs(&mut derivation, hashes)?;
        Ok(derivation)
    }

    /// The outputs, checked.
    fn output_names(&self) -> Result<Vec<OutputName>, UnfilledErrorKind> {
        let names = self.outputs.clone().unwrap_or_else(|| vec![OutputName::out()]);
        let mut seen = BTreeSet::new();
        for name in &names {
            if name.as_str() == "drvPath" {
                return Err(UnfilledErrorKind::OutputDrvPath);
            }
            if !seen.insert(name) {
                return Err(UnfilledErrorKind::DuplicateOutput(name.clone()));
            }
        }
        if names.is_empty() { Err(UnfilledErrorKind::NoOutputs) } else { Ok(names) }
    }

    /// What every output is, as far as it is known without the hash of the derivation.
    fn describe_output(
        &self,
        names: &[OutputName],
        hashes: &HashModuloCache,
    ) -> Result<DerivationOutput, UnfilledErrorKind> {
        let is_single_out = matches!(names, [name] if name.is_out());
        let method = match &self.addressing {
            Addressing::InputAddressed => None,
            Addressing::Fixed { mode, .. } => Some(parse_mode(mode.as_deref(), ContentAddressMethod::Flat)?),
            Addressing::Floating { mode, .. } | Addressing::Impure { mode, .. } => {
                Some(parse_mode(mode.as_deref(), ContentAddressMethod::Nar)?)
            }
        };
        let makes_derivation = is_single_out && method == Some(ContentAddressMethod::Text);
        if self.name.as_str().ends_with(DERIVATION_SUFFIX) && !makes_derivation {
            return Err(UnfilledErrorKind::DerivationSuffix);
        }
        let algorithm = |stated: &Option<String>| match stated {
            Some(name) => name.parse(),
            None => Ok(Algorithm::Sha256),
        };
        Ok(match (&self.addressing, method) {
            (Addressing::InputAddressed, _) | (_, None) => DerivationOutput::Deferred,
            (Addressing::Floating { algorithm: stated, .. }, Some(method)) => {
                DerivationOutput::Floating { method, algorithm: algorithm(stated)? }
            }
            (Addressing::Impure { algorithm: stated, .. }, Some(method)) => {
                DerivationOutput::Impure { method, algorithm: algorithm(stated)? }
            }
            (Addressing::Fixed { hash, algorithm, .. }, Some(method)) => {
                if !is_single_out {
                    return Err(UnfilledErrorKind::FixedOutputs);
                }
                let algorithm = algorithm.as_deref().map(str::parse).transpose()?;
                let hash = match algorithm {
                    Some(algorithm) if hash.is_empty() => Hash::zero(algorithm),
                    _ => Hash::parse_any(hash, algorithm)?,
                };
                let address = ContentAddress { method, hash };
                DerivationOutput::fixed(hashes.store_dir(), &self.name, &OutputName::out(), address)?
            }
        })
    }

    /// The attributes that every derivation has and those that describe its outputs, as texts.
    fn described(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut described = vec![
            ("name", self.name.as_str().into()),
            ("system", self.system.clone()),
            ("builder", self.builder.clone()),
        ];
        let (hash, algorithm, mode) = match &self.addressing {
            Addressing::InputAddressed => (None, None, None),
            Addressing::Fixed { hash, algorithm, mode } => (Some(hash), algorithm.as_ref(), mode.as_ref()),
            Addressing::Floating { algorithm, mode } | Addressing::Impure { algorithm, mode } => {
                (None, algorithm.as_ref(), mode.as_ref())
            }
        };
        let stated = [("outputHash", hash), ("outputHashAlgo", algorithm), ("outputHashMode", mode)];
        described
            .extend(stated.into_iter().filter_map(|(name, text)| Some((name, text?.as_bytes().to_vec()))));
        described
    }

    /// The environment without the outputs, and the structured attributes if there are any.
    fn environment(&self) -> Result<(Environment, Option<StructuredAttrs>), UnfilledErrorKind> {
        match &self.attributes {
            Attributes::Plain(attributes) => {
                if let Some(name) = RESERVED.iter().find(|name| attributes.contains_key(name.as_bytes())) {
                    return Err(UnfilledErrorKind::ReservedAttribute(name));
                }
                let mut environment = attributes.clone();
                for (name, value) in self.described() {
                    environment.insert(name.into(), value);
                }
                if let Some(outputs) = &self.outputs {
                    let names: Vec<&str> = outputs.iter().map(OutputName::as_str).collect();
                    environment.insert(b"outputs".to_vec(), names.join(" ").into_bytes());
                }
                Ok((environment, None))
            }
            Attributes::Structured(attributes) => {
                if let Some(name) = RESERVED.iter().find(|name| attributes.contains_key(**name)) {
                    return Err(UnfilledErrorKind::ReservedAttribute(name));
                }
                let mut attributes = attributes.clone();
                for (name, value) in self.described() {
                    let value = String::from_utf8(value).map_err(|_| UnfilledErrorKind::NotUtf8(name))?;
                    attributes.insert(name.into(), value.into());
                }
                if let Some(outputs) = &self.outputs {
                    let names: Vec<Value> = outputs.iter().map(|output| output.as_str().into()).collect();
                    attributes.insert("outputs".into(), names.into());
                }
                Ok((BTreeMap::new(), Some(StructuredAttrs::from_attributes(attributes))))
            }
        }
    }
}

fn parse_mode(
    mode: Option<&str>,
    default: ContentAddressMethod,
) -> Result<ContentAddressMethod, UnfilledErrorKind> {
    mode.map_or(Ok(default), |mode| {
        ContentAddressMethod::from_name(mode)
            .ok_or_else(|| UnfilledErrorKind::Mode(mode.chars().take(80).collect()))
    })
}

#[cfg(test)]
mod tests {
    use kiln_store_path::StoreDir;
    use serde_json::json;

    use super::*;

    fn unfilled() -> UnfilledDerivation {
        UnfilledDerivation {
            name: StorePathName::new("t").unwrap(),
            system: b"x86_64-linux".to_vec(),
            builder: b"/bin/sh".to_vec(),
            arguments: Vec::new(),
            outputs: None,
            addressing: Addressing::InputAddressed,
            attributes: Attributes::Plain(BTreeMap::new()),
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
        }
    }

    fn fixed(hash: &str, algorithm: Option<&str>, mode: Option<&str>) -> Addressing {
        Addressing::Fixed {
            hash: hash.into(),
            algorithm: algorithm.map(str::to_owned),
            mode: mode.map(str::to_owned),
        }
    }

    fn fill(unfilled: UnfilledDerivation) -> Result<Derivation, String> {
        unfilled.fill_in(&HashModuloCache::new(StoreDir::default())).map_err(|error| error.to_string())
    }

    fn outputs(names: &[&str]) -> Option<Vec<OutputName>> {
        Some(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn descriptions_that_make_no_derivation() {
        let base = unfilled();
        let named = |name: &str| StorePathName::new(name).unwrap();
        let plain = |name: &str| Attributes::Plain([(name.as_bytes().to_vec(), Vec::new())].into());
        let sha256 = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
        for (unfilled, message) in [
            (
                UnfilledDerivation { outputs: outputs(&[]), ..base.clone() },
                "derivation cannot have an empty set of outputs",
            ),
            (
                UnfilledDerivation { outputs: outputs(&["a", "a"]), ..base.clone() },
                "duplicate derivation output 'a'",
            ),
            (
                UnfilledDerivation { outputs: outputs(&["drvPath"]), ..base.clone() },
                "invalid derivation output name 'drvPath'",
            ),
            (
                UnfilledDerivation {
                    outputs: outputs(&["dev"]),
                    addressing: fixed(sha256, None, None),
                    ..base.clone()
                },
                "multiple outputs are not supported in fixed-output derivations",
            ),
            (
                UnfilledDerivation { name: named("t.drv"), ..base.clone() },
                "derivation names are allowed to end in '.drv' only if they produce a single derivation file",
            ),
            (
                UnfilledDerivation { attributes: plain("name"), ..base.clone() },
                "attribute 'name' must not be among the other attributes",
            ),
            (
                UnfilledDerivation {
                    attributes: Attributes::Structured(json!({"__json": 1}).as_object().unwrap().clone()),
                    ..base.clone()
                },
                "attribute '__json' must not be among the other attributes",
            ),
            (
                UnfilledDerivation { addressing: fixed(sha256, None, Some("tar")), ..base.clone() },
                "invalid value 'tar' for 'outputHashMode' attribute",
            ),
            (
                UnfilledDerivation { addressing: fixed(sha256, Some("sha512"), None), ..base.clone() },
                "attribute 'outputHash': hash 'sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=' should have type 'sha512'",
            ),
            (
                UnfilledDerivation { addressing: fixed("", None, None), ..base.clone() },
                "attribute 'outputHash': hash '' does not include a type, such as 'sha256:' or 'sha256-'",
            ),
            (
                UnfilledDerivation {
                    attributes: Attributes::Structured(Map::new()),
                    builder: b"\xff".to_vec(),
                    ..base.clone()
                },
                "attribute 'builder' is not UTF-8, but the derivation has structured attributes",
            ),
        ] {
            assert_eq!(
                fill(unfilled).unwrap_err(),
                format!("derivation '{}': {message}", message_name(message))
            );
        }
    }

    /// The derivation that a message is about: only one of them has another name.
    fn message_name(message: &str) -> &'static str {
        if message.contains("'.drv'") { "t.drv" } else { "t" }
    }

    #[test]
    fn an_empty_hash_is_one_of_zeros() {
        let derivation =
            fill(UnfilledDerivation { addressing: fixed("", Some("sha256"), None), ..unfilled() }).unwrap();
        let (address, _) = derivation.fixed_output().unwrap();
        assert_eq!(address.hash, Hash::zero(Algorithm::Sha256));
        assert_eq!(derivation.environment[&b"outputHash"[..]], b"");
    }

    #[test]
    fn a_derivation_may_make_a_derivation() {
        let addressing = Addressing::Floating { algorithm: None, mode: Some("text".into()) };
        let name = StorePathName::new("t.drv").unwrap();
        let derivation = fill(UnfilledDerivation { name, addressing, ..unfilled() }).unwrap();
        let expected =
            DerivationOutput::Floating { method: ContentAddressMethod::Text, algorithm: Algorithm::Sha256 };
        assert_eq!(derivation.outputs, [(OutputName::out(), expected)].into());
    }
}
