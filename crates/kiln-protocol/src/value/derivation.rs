//! Derivations without input derivations, as BuildDerivation sends them.

use std::collections::{BTreeMap, BTreeSet};

use kiln_derivation::{BasicDerivation, Derivation, DerivationOutput, StatedPath};
use kiln_store_path::{OutputName, StorePath};

use crate::describe::wire_struct;
use crate::error::ReadError;
use crate::shape::{Field, Shape};
use crate::version::Versions;
use crate::wire::{Decoder, Encoder, Wire};

wire_struct! {
    /// The three texts that describe an output.
    struct OutputTexts {
        /// Full path, or empty.
        pub path: Vec<u8>,
        /// `[r:|text:|git:]ALGORITHM`, or empty.
        pub hash_algorithm: Vec<u8>,
        /// Digits in base 16, `impure`, or empty.
        pub hash: Vec<u8>,
    }
}

wire_struct! {
    /// A derivation as it is sent (worker protocol: `BasicDerivation`). Its name isn't.
    struct DerivationTexts {
        /// The outputs.
        pub outputs: BTreeMap<OutputName, OutputTexts>,
        /// All that it is built from.
        pub input_sources: BTreeSet<StorePath>,
        /// The system to build on.
        pub system: Vec<u8>,
        /// The program that builds.
        pub builder: Vec<u8>,
        /// Its arguments.
        pub arguments: Vec<Vec<u8>>,
        /// Its environment; structured attributes are the variable `__json`.
        pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
    }
}

/// A derivation and the path that it is, or would be, written to; the derivation's name comes from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivationToBuild {
    /// The path of the derivation; nothing says that it is valid.
    pub path: StorePath,
    /// What to build. All its inputs are store paths.
    pub derivation: BasicDerivation,
}

impl Wire for DerivationToBuild {
    const SHAPE: Shape = Shape::Fields {
        name: "DerivationToBuild",
        fields: &[
            Field { name: "path", versions: Versions::ALL, shape: StorePath::SHAPE },
            Field { name: "derivation", versions: Versions::ALL, shape: DerivationTexts::SHAPE },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let path = StorePath::read(decoder).map_err(|error| error.within("path"))?;
        let derivation = DerivationTexts::read(decoder)
            .and_then(|texts| from_texts(&path, texts, decoder))
            .map_err(|error| error.within("derivation"))?;
        Ok(Self { path, derivation })
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        self.path.write(encoder);
        to_texts(&self.derivation, encoder).write(encoder);
    }
}

fn from_texts(
    path: &StorePath,
    texts: DerivationTexts,
    decoder: &Decoder<'_>,
) -> Result<BasicDerivation, ReadError> {
    let name = Derivation::name_of_path(path).map_err(ReadError::value)?;
    let store_dir = &decoder.dialect().store_dir;
    let mut outputs = BTreeMap::new();
    for (output_name, OutputTexts { path, hash_algorithm, hash }) in texts.outputs {
        let fields = [path.as_slice(), &hash_algorithm, &hash];
        let output =
            DerivationOutput::from_fields(store_dir, &name, &output_name, fields, StatedPath::Ignored)
                .map_err(|error| ReadError::value(error).within("outputs"))?;
        outputs.insert(output_name, output);
    }
    let mut derivation = Derivation {
        name,
        outputs,
        input_derivations: BTreeMap::new(),
        input_sources: texts.input_sources,
        system: texts.system,
        builder: texts.builder,
        arguments: texts.arguments,
        environment: BTreeMap::new(),
        structured_attrs: None,
    };
    derivation
        .set_written_environment(texts.environment)
        .map_err(|error| ReadError::value(error).within("environment"))?;
    BasicDerivation::new(derivation).map_err(ReadError::value)
}

fn to_texts(derivation: &BasicDerivation, encoder: &Encoder<'_>) -> DerivationTexts {
    let store_dir = &encoder.dialect().store_dir;
    let outputs = derivation.outputs.iter().map(|(name, output)| {
        let fields = output.to_fields(store_dir);
        let texts = OutputTexts {
            path: fields.path.into_bytes(),
            hash_algorithm: fields.hash_algorithm.into_bytes(),
            hash: fields.hash.into_bytes(),
        };
        (name.clone(), texts)
    });
    let environment = derivation.written_environment();
    DerivationTexts {
        outputs: outputs.collect(),
        input_sources: derivation.input_sources.clone(),
        system: derivation.system.clone(),
        builder: derivation.builder.clone(),
        arguments: derivation.arguments.clone(),
        environment: environment.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
    }
}
