//! Reading derivations from JSON.

use std::collections::{BTreeMap, BTreeSet};

use kiln_hash::{Algorithm, Hash, ParseHashError, UnknownAlgorithm};
use kiln_store_path::{
    ContentAddress, ContentAddressMethod, InvalidName, InvalidStorePath, MakePathError, OutputName, StoreDir,
    StorePath, StorePathName,
};
use serde_json::{Map, Value};

use super::JsonVersion;
use crate::derivation::{Derivation, KindError};
use crate::input_outputs::{InputOutputs, TooDeep};
use crate::output::DerivationOutput;
use crate::structured_attrs::{STRUCTURED_ATTRS_VARIABLE, StructuredAttrs, StructuredAttrsError, kind_of};

/// Why JSON is no derivation.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON, or nested deeper than 128 levels.
    #[error("derivation is not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A value has the wrong type.
    #[error("derivation JSON: '{at}' must be {expected}, found {found}")]
    Type {
        /// Where the value is, with dots between the keys.
        at: String,
        /// The type that it must have.
        expected: &'static str,
        /// The type that it has.
        found: &'static str,
    },
    /// A value is missing.
    #[error("derivation JSON: '{at}' is missing")]
    Missing {
        /// Where the value should be.
        at: String,
    },
    /// The version is another one.
    #[error("derivation JSON: 'version' must be {expected}, found {found}")]
    Version {
        /// The version that is being read.
        expected: u64,
        /// What the JSON states.
        found: String,
    },
    /// The keys of an output do not go together.
    #[error("derivation JSON: output '{output}' has an unexpected set of keys: {keys}")]
    OutputKeys {
        /// The output.
        output: String,
        /// The keys, with commas between them.
        keys: String,
    },
    /// The stated path of a fixed output is not its own.
    #[error("derivation JSON: output '{output}' states the path '{stated}', should be '{computed}'")]
    FixedPath {
        /// The output.
        output: String,
        /// What the JSON states.
        stated: StorePath,
        /// What the hash gives.
        computed: StorePath,
    },
    /// A text is not what it must be.
    #[error("derivation JSON: '{at}': {error}")]
    Text {
        /// Where the text is.
        at: String,
        /// What is wrong with it.
        error: JsonTextError,
    },
    /// The environment holds the structured attributes, which have their own place.
    #[error(
        "derivation JSON: 'env' must not contain '{STRUCTURED_ATTRS_VARIABLE}', use 'structuredAttrs' instead"
    )]
    ReservedVariable,
    /// The variable `__json` of an old version holds no structured attributes.
    #[error("derivation JSON: {0}")]
    StructuredAttrs(#[from] StructuredAttrsError),
    /// The outputs do not make sense together.
    #[error("derivation JSON: {0}")]
    Kind(#[from] KindError),
}

/// What can be wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonTextError {
    /// It is no store path.
    #[error(transparent)]
    Path(#[from] InvalidStorePath),
    /// It is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// It is no hash algorithm.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// It is no hash.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
    /// It is no way of hashing content.
    #[error("unknown content-addressing method '{0}'")]
    Method(String),
    /// The hash has no path.
    #[error(transparent)]
    MakePath(#[from] MakePathError),
    /// Outputs of outputs nest too deep.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
}

impl Derivation {
    /// Reads the JSON text of one derivation: what `nix derivation add` takes, and the values of what `nix derivation
    /// show` prints. `name` is that of the derivation, for the first version of the format, which does not state it.
    ///
    /// The paths of input-addressed outputs are taken as they are stated: see [`fill_in_outputs`](crate::fill_in_outputs)
    /// and [`check_outputs`](crate::check_outputs).
    ///
    /// # Errors
    /// See [`JsonError`].
    pub fn parse_json(
        text: &[u8],
        name: Option<&StorePathName>,
        store_dir: &StoreDir,
        version: JsonVersion,
    ) -> Result<Self, JsonError> {
        let value: Value = serde_json::from_slice(text)?;
        Self::from_json(object(&value, "derivation")?, name, store_dir, version)
    }

    /// As [`Self::parse_json`], from a JSON object.
    ///
    /// # Errors
    /// See [`JsonError`].
    pub fn from_json(
        json: &Map<String, Value>,
        name: Option<&StorePathName>,
        store_dir: &StoreDir,
        version: JsonVersion,
    ) -> Result<Self, JsonError> {
        if let Some(expected) = version.stated() {
            let found = required(json, "", "version")?;
            if found.as_u64() != Some(expected) {
                return Err(JsonError::Version {
                    expected,
                    found: found.to_string().chars().take(80).collect(),
                });
            }
        }
        let name = match (json.get("name"), name) {
            (None, Some(name)) if version == JsonVersion::V1 => name.clone(),
            _ => parse_at(json, "", "name", |text| Ok(StorePathName::new(text)?))?,
        };
        let reader = Reader { store_dir, version, name: &name };
        let outputs = reader.outputs(object_at(json, "", "outputs")?)?;
        let (input_sources, input_derivations) = reader.inputs(json)?;
        let (environment, structured_attrs) = reader.environment(json)?;
        let bytes = |key| Ok::<_, JsonError>(string(required(json, "", key)?, key)?.as_bytes().to_vec());
        let (system, builder) = (bytes("system")?, bytes("builder")?);
        let arguments = strings(required(json, "", "args")?, "args")?;
        let derivation = Self {
            outputs,
            input_derivations,
            input_sources,
            system,
            builder,
            arguments: arguments.into_iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            environment,
            structured_attrs,
            name,
        };
        derivation.kind()?;
        Ok(derivation)
    }
}

type Environment = BTreeMap<Vec<u8>, Vec<u8>>;
type Inputs = (BTreeSet<StorePath>, BTreeMap<StorePath, InputOutputs>);

struct Reader<'a> {
    store_dir: &'a StoreDir,
    version: JsonVersion,
    name: &'a StorePathName,
}

impl Reader<'_> {
    fn path(&self, text: &str) -> Result<StorePath, JsonTextError> {
        Ok(if self.version.has_full_paths() {
            self.store_dir.parse(text)?
        } else {
            StorePath::from_base_name(text)?
        })
    }

    fn outputs(
        &self,
        json: &Map<String, Value>,
    ) -> Result<BTreeMap<OutputName, DerivationOutput>, JsonError> {
        json.iter()
            .map(|(name, value)| {
                let at = format!("outputs.{name}");
                let output = OutputName::new(name).map_err(|error| text_error(&at, error))?;
                let description = self.output(&output, object(value, &at)?, &at)?;
                Ok((output, description))
            })
            .collect()
    }

    fn output(
        &self,
        output: &OutputName,
        json: &Map<String, Value>,
        at: &str,
    ) -> Result<DerivationOutput, JsonError> {
        let mut keys: Vec<&str> = json.keys().map(String::as_str).collect();
        keys.sort_unstable();
        match (self.version, keys.as_slice()) {
            (_, []) => Ok(DerivationOutput::Deferred),
            (_, ["path"]) => Ok(DerivationOutput::InputAddressed(self.stated_path(json, at)?)),
            (JsonVersion::V4, ["hash", "method"]) => {
                let hash = parse_at(json, at, "hash", |text| Ok(Hash::parse_sri(text)?))?;
                self.fixed(output, method(json, at)?, hash, at)
            }
            (JsonVersion::V1, ["hash", "hashAlgo", "path"])
            | (JsonVersion::V2, ["hash", "hashAlgo", "method", "path"])
            | (JsonVersion::V3, ["hash", "hashAlgo", "method"]) => {
                let (method, algorithm) = self.addressing(json, at)?;
                let hash = parse_at(json, at, "hash", |text| Ok(Hash::parse_unprefixed(text, algorithm)?))?;
                let fixed = self.fixed(output, method, hash, at)?;
                self.check_stated_path(output, &fixed, json, at)?;
                Ok(fixed)
            }
            (JsonVersion::V1, ["hashAlgo"])
            | (JsonVersion::V2 | JsonVersion::V3 | JsonVersion::V4, ["hashAlgo", "method"]) => {
                let (method, algorithm) = self.addressing(json, at)?;
                Ok(DerivationOutput::Floating { method, algorithm })
            }
            (JsonVersion::V1, ["hashAlgo", "impure"])
            | (JsonVersion::V2 | JsonVersion::V3 | JsonVersion::V4, ["hashAlgo", "impure", "method"])
                if json.get("impure") == Some(&Value::Bool(true)) =>
            {
                let (method, algorithm) = self.addressing(json, at)?;
                Ok(DerivationOutput::Impure { method, algorithm })
            }
            _ => Err(JsonError::OutputKeys {
                output: output.to_string(),
                keys: keys.join(", ").chars().take(200).collect(),
            }),
        }
    }

    fn stated_path(&self, json: &Map<String, Value>, at: &str) -> Result<StorePath, JsonError> {
        parse_at(json, at, "path", |text| self.path(text))
    }

    /// The method and the algorithm of an output, which the first version writes together.
    fn addressing(
        &self,
        json: &Map<String, Value>,
        at: &str,
    ) -> Result<(ContentAddressMethod, Algorithm), JsonError> {
        if self.version == JsonVersion::V1 {
            return parse_at(json, at, "hashAlgo", |text| {
                Ok(ContentAddressMethod::parse_with_algorithm(text)?)
            });
        }
        let algorithm = parse_at(json, at, "hashAlgo", |text| Ok(text.parse::<Algorithm>()?))?;
        Ok((method(json, at)?, algorithm))
    }

    fn fixed(
        &self,
        output: &OutputName,
        method: ContentAddressMethod,
        hash: Hash,
        at: &str,
    ) -> Result<DerivationOutput, JsonError> {
        DerivationOutput::fixed(self.store_dir, self.name, output, ContentAddress { method, hash })
            .map_err(|error| text_error(at, error))
    }

    /// Where the format states the path of a fixed output, makes sure that it is the computed one.
    fn check_stated_path(
        &self,
        output: &OutputName,
        fixed: &DerivationOutput,
        json: &Map<String, Value>,
        at: &str,
    ) -> Result<(), JsonError> {
        let Some(computed) = fixed.path().filter(|_| self.version.has_full_paths()) else { return Ok(()) };
        let stated = self.stated_path(json, at)?;
        if stated == *computed {
            Ok(())
        } else {
            Err(JsonError::FixedPath { output: output.to_string(), stated, computed: computed.clone() })
        }
    }

    fn inputs(&self, json: &Map<String, Value>) -> Result<Inputs, JsonError> {
        let (json, at, sources, derivations) = if self.version == JsonVersion::V4 {
            (object_at(json, "", "inputs")?, "inputs", "srcs", "drvs")
        } else {
            (json, "", "inputSrcs", "inputDrvs")
        };
        let path_of = |text: &str, at: &str| self.path(text).map_err(|error| text_error(at, error));
        let sources = strings(required(json, at, sources)?, sources)?
            .into_iter()
            .map(|text| path_of(text, sources))
            .collect::<Result<_, _>>()?;
        let derivations = object_at(json, at, derivations)?
            .iter()
            .map(|(path, used)| {
                Ok((path_of(path, derivations)?, self.input(used, &join(derivations, path))?))
            })
            .collect::<Result<_, JsonError>>()?;
        Ok((sources, derivations))
    }

    /// The used outputs of an input. Values nest at most 128 levels deep, so the recursion is short.
    fn input(&self, json: &Value, at: &str) -> Result<InputOutputs, JsonError> {
        if let (JsonVersion::V1, Value::Array(_)) = (self.version, json) {
            return input_list(json, at);
        }
        let node = object(json, at)?;
        let mut used = input_list(required(node, at, "outputs")?, &join(at, "outputs"))?;
        for (name, child) in object_at(node, at, "dynamicOutputs")? {
            let at = format!("{at}.dynamicOutputs.{name}");
            let output = OutputName::new(name).map_err(|error| text_error(&at, error))?;
            let child = self.input(child, &at)?;
            used.insert_dynamic(output, child).map_err(|error| text_error(&at, error))?;
        }
        Ok(used)
    }

    fn environment(
        &self,
        json: &Map<String, Value>,
    ) -> Result<(Environment, Option<StructuredAttrs>), JsonError> {
        let mut environment = object_at(json, "", "env")?
            .iter()
            .map(|(name, value)| match value {
                Value::String(value) => Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
                other => Err(wrong_type(&join("env", name), "a string", other)),
            })
            .collect::<Result<Environment, _>>()?;
        let attributes =
            json.get("structuredAttrs").map(|value| object(value, "structuredAttrs")).transpose()?;
        let text = environment.remove(STRUCTURED_ATTRS_VARIABLE.as_bytes());
        let structured_attrs = match (attributes, text) {
            (Some(_), Some(_)) => return Err(JsonError::ReservedVariable),
            (None, Some(_)) if self.version.has_structured_attrs() => {
                return Err(JsonError::ReservedVariable);
            }
            (Some(attributes), None) => Some(StructuredAttrs::from_attributes(attributes.clone())),
            (None, Some(text)) => Some(StructuredAttrs::parse(&text)?),
            (None, None) => None,
        };
        Ok((environment, structured_attrs))
    }
}

fn input_list(json: &Value, at: &str) -> Result<InputOutputs, JsonError> {
    strings(json, at)?
        .into_iter()
        .map(|name| OutputName::new(name).map_err(|error| text_error(at, error)))
        .collect()
}

fn method(json: &Map<String, Value>, at: &str) -> Result<ContentAddressMethod, JsonError> {
    parse_at(json, at, "method", |text| {
        ContentAddressMethod::from_name(text)
            .ok_or_else(|| JsonTextError::Method(text.chars().take(80).collect()))
    })
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

fn required<'a>(json: &'a Map<String, Value>, at: &str, key: &str) -> Result<&'a Value, JsonError> {
    json.get(key).ok_or_else(|| JsonError::Missing { at: join(at, key) })
}

fn object<'a>(json: &'a Value, at: &str) -> Result<&'a Map<String, Value>, JsonError> {
    json.as_object().ok_or_else(|| wrong_type(at, "an object", json))
}

fn object_at<'a>(
    json: &'a Map<String, Value>,
    at: &str,
    key: &str,
) -> Result<&'a Map<String, Value>, JsonError> {
    object(required(json, at, key)?, &join(at, key))
}

fn string<'a>(json: &'a Value, at: &str) -> Result<&'a str, JsonError> {
    json.as_str().ok_or_else(|| wrong_type(at, "a string", json))
}

fn strings<'a>(json: &'a Value, at: &str) -> Result<Vec<&'a str>, JsonError> {
    const EXPECTED: &str = "an array of strings";
    let elements = json.as_array().ok_or_else(|| wrong_type(at, EXPECTED, json))?;
    elements.iter().map(|element| element.as_str().ok_or_else(|| wrong_type(at, EXPECTED, element))).collect()
}

fn parse_at<T>(
    json: &Map<String, Value>,
    at: &str,
    key: &str,
    read: impl FnOnce(&str) -> Result<T, JsonTextError>,
) -> Result<T, JsonError> {
    let at = join(at, key);
    let text = string(json.get(key).ok_or_else(|| JsonError::Missing { at: at.clone() })?, &at)?;
    read(text).map_err(|error| text_error(&at, error))
}

fn text_error(at: &str, error: impl Into<JsonTextError>) -> JsonError {
    JsonError::Text { at: at.chars().take(320).collect(), error: error.into() }
}

fn wrong_type(at: &str, expected: &'static str, found: &Value) -> JsonError {
    JsonError::Type { at: at.chars().take(320).collect(), expected, found: kind_of(found) }
}
