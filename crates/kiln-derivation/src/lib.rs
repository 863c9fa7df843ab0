//! Derivations.

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
pub use references_graph::{GraphMember, graph_json, registration_text};
pub use resolution::ResolveError;
pub use rewrites::Rewrites;
pub use scratch::{floating_scratch_path, scratch_path};
pub use structured_attrs::{STRUCTURED_ATTRS_VARIABLE, StructuredAttrs, StructuredAttrsError};
pub use structured_files::attrs_sh;
pub use unfilled::{Addressing, Attributes, UnfilledDerivation, UnfilledError, UnfilledErrorKind};
