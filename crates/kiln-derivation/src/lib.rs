//! Derivations: what to build, from what, and what comes of it.
//!
//! A [`Derivation`] is plain data: outputs, inputs, a program, its arguments and its environment, all of them byte strings
//! that need not be UTF-8. This crate reads and writes it, computes everything that follows from it, and says what the
//! engine and the builder are to make of it. It does no I/O: whoever calls brings the texts and takes the results.
//!
//! * **Texts.** [`Derivation::parse_aterm`] and [`Derivation::to_aterm`] are the `.drv` file (ATerm), read as laxly as
//!   real Nix does or strictly ([`Strictness`]); [`Derivation::to_file`] adds its store path. [`Derivation::parse_json`]
//!   and [`show_json`] are the four versions of the JSON format.
//! * **Hashes and paths.** [`HashModuloCache`] hashes derivations modulo fixed outputs, asking for input derivations one
//!   at a time ([`InputWalk`]), however deep the graph. [`check_outputs`] holds every derivation that enters a store
//!   against the paths that follow from it; [`fill_in_outputs`] and [`UnfilledDerivation`] compute those paths, the latter
//!   from a description such as an evaluator gives. [`Derivation::resolve`] puts the outputs of input derivations in their
//!   place.
//! * **Meaning.** [`BuildOptions`] are the attributes that speak to the engine, [`Platform`] tells whether this machine
//!   can build, and [`BuilderView`] is all that the builder sees: environment, arguments, and files.
//!
//! Derivations come from anywhere. So nothing here recurses over input without a bound, everything takes linear time,
//! and no input makes it panic.

mod aterm;
mod builder_view;
mod canonical_json;
mod derivation;
mod file;
mod hash_modulo;
mod input_outputs;
mod json;
mod options;
mod output;
mod output_paths;
mod platform;
mod references_graph;
mod resolution;
mod rewrites;
mod scratch;
mod structured_attrs;
mod structured_files;
mod unfilled;

pub use aterm::{ParseError, ParseErrorKind, Strictness, SyntaxError, WriteError};
pub use builder_view::{ATTRS_JSON_FILE, ATTRS_SH_FILE, BuildContext, BuilderView, pass_as_file_name};
pub use canonical_json::{canonical_json, indented_json};
pub use derivation::{
    BasicDerivation, DERIVATION_SUFFIX, Derivation, DerivationKind, ExperimentalFeature, HasInputDerivations,
    KindError, NotADerivation,
};
pub use file::{DerivationFile, FileError, derivation_path};
pub use hash_modulo::{HashModulo, HashModuloCache, HashModuloError, InputWalk, LoadError};
pub use input_outputs::{InputOutputs, MAX_DYNAMIC_DEPTH, TooDeep};
pub use json::{JsonError, JsonLayout, JsonTextError, JsonVersion, JsonWriteError, show_json};
pub use options::{
    BuildOptions, GraphRootError, IllegalReferenceSpecifier, OptionWarning, OptionsError, OutputCheck,
    OutputChecks, ReferenceSpecifier, ReferencesGraph,
};
pub use output::{DerivationOutput, OutputError, OutputFields, StatedPath, fixed_output_path};
pub use output_paths::{OutputPathError, check_outputs, fill_in_outputs};
pub use platform::{CannotBuildHere, Platform};
pub use references_graph::GraphMember;
pub use resolution::ResolveError;
pub use rewrites::Rewrites;
pub use scratch::{floating_scratch_path, scratch_path};
pub use structured_attrs::{STRUCTURED_ATTRS_VARIABLE, StructuredAttrs, StructuredAttrsError};

pub use unfilled::{Addressing, Attributes, UnfilledDerivation, UnfilledError, UnfilledErrorKind};
