//! Realisations: which path an output of a content-addressed derivation was built as (binary-cache specification,
//! section 7).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kiln_hash::{Hash, ParseHashError};
use kiln_store_path::{InvalidName, InvalidStorePath, OutputName, StorePath};
use serde_json::{Map, Value};

use crate::key::{PublicKeys, SecretKey};
use crate::signature::{ParseSignatureError, SignatureSet};

/// An output of a derivation, the derivation named by its hash modulo: `sha256:BASE16!OUTPUT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealisationId {
    /// Hash modulo of the derivation.
    pub derivation_hash: Hash,
    /// Name of the output.
    pub output: OutputName,
}

/// A realised output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// What was realised.
    pub id: RealisationId,
    /// As which path.
    pub output_path: StorePath,
    /// Signatures of [`signed_text`](Self::signed_text).
    pub signatures: SignatureSet,
    /// Realisations that this one was built from; written by old versions of Nix only, and part of what they signed.
    pub dependent_realisations: BTreeMap<RealisationId, StorePath>,
}

/// Why a text is no realisation or no id of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRealisationError {
    /// Not JSON, or not an object.
    #[error("realisation is not a JSON object: {0}")]
    Json(String),
    /// A field is missing or has another type.
    #[error("realisation: field '{0}' is missing or of a wrong type")]
    Field(&'static str),
    /// An id without `!`.
    #[error("invalid derivation output id '{0}': expected 'HASH!OUTPUT'")]
    Id(String),
    /// The hash of an id does not read.
    #[error("invalid derivation output id: {0}")]
    Hash(#[from] ParseHashError),
    /// The output's name is invalid.
    #[error("invalid derivation output id: {0}")]
    Output(#[from] InvalidName),
    /// A path does not read.
    #[error("realisation: {0}")]
    Path(#[from] InvalidStorePath),
    /// A signature does not read.
    #[error("realisation: {0}")]
    Signature(#[from] ParseSignatureError),
    /// The text is about another output than the one asked for.
    #[error("realisation is about '{found}' instead of '{asked}'")]
    OtherId {
        /// The id in the text.
        found: String,
        /// The id that was asked for.
        asked: String,
    },
}

impl FromStr for RealisationId {
    type Err = ParseRealisationError;

    fn from_str(text: &str) -> Result<Self, ParseRealisationError> {
        let (hash, output) = text
            .split_once('!')
            .ok_or_else(|| ParseRealisationError::Id(text.chars().take(200).collect()))?;
        Ok(Self { derivation_hash: Hash::parse_prefixed(hash)?, output: OutputName::new(output)? })
    }
}

impl fmt::Display for RealisationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.derivation_hash.prefixed_base16(), self.output)
    }
}

fn parse_object(text: &[u8]) -> Result<Map<String, Value>, ParseRealisationError> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ParseRealisationError::Json("expected '{'".to_owned())),
        Err(error) => Err(ParseRealisationError::Json(error.to_string())),
    }
}

fn parse_id(value: &Value) -> Result<RealisationId, ParseRealisationError> {
    value.as_str().ok_or(ParseRealisationError::Field("id"))?.parse()
}

impl Realisation {
    /// A realisation without signatures.
    pub fn new(id: RealisationId, output_path: StorePath) -> Self {
        Self { id, output_path, signatures: SignatureSet::new(), dependent_realisations: BTreeMap::new() }
    }

    /// Reads the JSON of a `.doi` file. If the text leaves the id out, it is the one asked for.
    ///
    /// # Errors
    /// See [`ParseRealisationError`]; a text about another id is refused.
    pub fn parse(asked: &RealisationId, text: &[u8]) -> Result<Self, ParseRealisationError> {
        let object = parse_object(text)?;
        let id = match object.get("id") {
            None => asked.clone(),
            Some(value) => parse_id(value)?,
        };
        let realisation = Self::from_object(id, &object)?;
        if realisation.id != *asked {
            let (found, asked) = (realisation.id.to_string(), asked.to_string());
            return Err(ParseRealisationError::OtherId { found, asked });
        }
        Ok(realisation)
    }

    /// Reads a realisation that says itself what it is about, as the worker protocol sends it.
    ///
    /// # Errors
    /// See [`ParseRealisationError`]; a text without an id is refused.
    pub fn parse_with_id(text: &[u8]) -> Result<Self, ParseRealisationError> {
        let object = parse_object(text)?;
        let id = parse_id(object.get("id").unwrap_or(&Value::Null))?;
        Self::from_object(id, &object)
    }

    fn from_object(id: RealisationId, object: &Map<String, Value>) -> Result<Self, ParseRealisationError> {
        let output_path =
            object.get("outPath").and_then(Value::as_str).ok_or(ParseRealisationError::Field("outPath"))?;
        let mut realisation = Self::new(id, StorePath::from_base_name(output_path)?);
        if let Some(value) = object.get("signatures") {
            for signature in value.as_array().ok_or(ParseRealisationError::Field("signatures"))? {
                let text = signature.as_str().ok_or(ParseRealisationError::Field("signatures"))?;
                realisation.signatures.insert(text.parse()?);
            }
        }
        if let Some(value) = object.get("dependentRealisations") {
            let field = ParseRealisationError::Field("dependentRealisations");
            for (id, path) in value.as_object().ok_or(field.clone())? {
                let path = StorePath::from_base_name(path.as_str().ok_or(field.clone())?)?;
                realisation.dependent_realisations.insert(id.parse()?, path);
            }
        }
        Ok(realisation)
    }

    /// The JSON of a `.doi` file, compact and with sorted keys.
    pub fn to_json(&self) -> String {
        let mut object = self.unsigned_object();
        let signatures = self.signatures.iter().map(|signature| signature.as_str().into()).collect();
        object.insert("signatures".to_owned(), Value::Array(signatures));
        Value::Object(object).to_string()
    }

    /// What is signed: the JSON without its signatures.
    pub fn signed_text(&self) -> String {
        Value::Object(self.unsigned_object()).to_string()
    }

    fn unsigned_object(&self) -> Map<String, Value> {
        let dependent = self
            .dependent_realisations
            .iter()
            .map(|(id, path)| (id.to_string(), path.base_name().into()))
            .collect();
        // The map keeps its keys sorted.
        Map::from_iter([
            ("dependentRealisations".to_owned(), Value::Object(dependent)),
            ("id".to_owned(), self.id.to_string().into()),
            ("outPath".to_owned(), self.output_path.base_name().into()),
        ])
    }

    /// Adds a signature by `key`; `false` if it was there already.
    pub fn sign(&mut self, key: &SecretKey) -> bool {
        self.signatures.insert(key.sign(self.signed_text().as_bytes()))
    }

    /// Whether a trusted key has signed the realisation.
    pub fn is_signed(&self, keys: &PublicKeys) -> bool {
        let text = self.signed_text();
        self.signatures.iter().any(|signature| keys.verify(text.as_bytes(), signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "sha256:e5367c7cdb4ac33dad6c36a43ca1b46056ad0a17dfbba2f3a9cb91b8c947e322!out";
    const NEW: &[u8] = include_bytes!(
        "../tests/data/cache/2.34-ca/realisations/sha256:e5367c7cdb4ac33dad6c36a43ca1b46056ad0a17dfbba2f3a9cb91b8c947e322!out.doi"
    );
    const OLD: &[u8] = include_bytes!(
        "../tests/data/cache/2.8-ca/realisations/sha256:e5367c7cdb4ac33dad6c36a43ca1b46056ad0a17dfbba2f3a9cb91b8c947e322!out.doi"
    );

    fn id() -> RealisationId {
        ID.parse().unwrap()
    }

    #[test]
    fn texts_of_both_generations_read_back() {
        for (text, dependent) in [(NEW, 0), (OLD, 1)] {
            let realisation = Realisation::parse(&id(), text).unwrap();
            assert_eq!(realisation.to_json().as_bytes(), text);
            assert_eq!(realisation.dependent_realisations.len(), dependent);
            assert_eq!(realisation.id.to_string(), ID);
        }
    }

    #[test]
    fn only_the_path_is_required() {
        let text = br#"{"outPath":"a9bmxp27g1v0jdv0w9jylsq2pdq60fdr-ca-dep","more":[]}"#;
        assert_eq!(Realisation::parse(&id(), text).unwrap().id, id());
        let about_other = String::from_utf8_lossy(NEW).replace("!out", "!dev");
        assert!(matches!(
            Realisation::parse(&id(), about_other.as_bytes()),
            Err(ParseRealisationError::OtherId { .. })
        ));
        for wrong in ["", "[]", "{}", r#"{"outPath":1}"#, r#"{"outPath":"x"}"#] {
            assert!(Realisation::parse(&id(), wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_covers_the_dependent_realisations() {
        let key = SecretKey::generate("k", [1; 32]).unwrap();
        let keys = PublicKeys::from_iter([key.public_key()]);
        let mut realisation = Realisation::parse(&id(), OLD).unwrap();
        assert!(!realisation.is_signed(&keys));
        realisation.sign(&key);
        let mut realisation = Realisation::parse(&id(), realisation.to_json().as_bytes()).unwrap();
        assert!(realisation.is_signed(&keys));
        realisation.dependent_realisations.clear();
        assert!(!realisation.is_signed(&keys));
    }

    #[test]
    fn every_truncation_is_refused() {
        for end in 0..NEW.len() {
            assert!(Realisation::parse(&id(), &NEW[..end]).is_err(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(position in 0..NEW.len(), byte in any::<u8>()) {
            let mut text = NEW.to_vec();
            text[position] = byte;
            let _ = Realisation::parse(&id(), &text);
        }
    }
}
