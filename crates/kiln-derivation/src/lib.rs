//! Derivations.

mod aterm;
mod canonical_json;
mod derivation;
mod file;
mod hash_modulo;
mod input_outputs;
mod output;
mod output_paths;
mod rewrites;
mod structured_attrs;

pub use aterm::{ParseError, ParseErrorKind, Strictness, SyntaxError, WriteError};
pub use canonical_json::{canonical_json, indented_json};
pub use derivation::{
    BasicDerivation, DERIVATION_SUFFIX, Derivation, DerivationKind, ExperimentalFeature, HasInputDerivations,
    KindError, NotADerivation,
};
pub use file::{DerivationFile, FileError, derivation_path};
pub use hash_modulo::{HashModulo, HashModuloCache, HashModuloError, InputWalk, LoadError};
pub use input_outputs::{InputOutputs, MAX_DYNAMIC_DEPTH, TooDeep};
pub use output::{DerivationOutput, OutputError, OutputFields, StatedPath, fixed_output_path};
pub use output_paths::{OutputPathError, check_outputs, fill_in_outputs};
pub use rewrites::Rewrites;
pub use structured_attrs::{STRUCTURED_ATTRS_VARIABLE, StructuredAttrs, StructuredAttrsError};
