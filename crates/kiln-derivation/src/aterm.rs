//! The text of a `.drv` file: an ATerm `Derive(…)`, or `DrvWithVersion("xp-dyn-drv",…)` where outputs of outputs are used.
//!
//! The writer makes the one canonical text: everything sorted, no duplicates, the fewest escapes. The reader takes what
//! real Nix takes, which is more ([`Strictness::Lenient`]), or nothing but that text ([`Strictness::Strict`]).

mod lexer;
mod parser;
mod writer;

pub use parser::{ParseError, ParseErrorKind, Strictness, SyntaxError};
pub use writer::WriteError;
pub(crate) use writer::{Inputs, OutputPaths, write};

/// How a derivation's text begins, if all its inputs are plain outputs.
const CLASSIC_HEADER: &str = "Derive(";

/// How a derivation's text begins, if it states a version of the format.
const VERSIONED_HEADER: &str = "DrvWithVersion(";

/// The one version there is: outputs of outputs may be inputs.
const DYNAMIC_VERSION: &str = "xp-dyn-drv";
