//! What can be wrong with a recipe, and how it is told.
//!
//! Each stage reports a [`Mistake`]: a [`Problem`] and where it is. [`RecipeError`] adds the file, and its `Display` is
//! the one place where positions, excerpts and advice become text.

use std::error::Error;
use std::fmt;

use kiln_derivation::{FileError, HashModuloError, UnfilledErrorKind};
use kiln_hash::ParseHashError;
use kiln_store_path::{InvalidName, InvalidStorePath};

use crate::filter::InvalidPattern;
use crate::interpolation::InvalidReference;
use crate::source_text::{Position, SourceText, Span};

/// What is wrong with a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file has bytes that are not UTF-8, which TOML must be.
    #[error("the recipe is not UTF-8")]
    NotUtf8,
    /// The file is larger than any recipe may be.
    #[error("the recipe has {size} bytes; at most {most} are read")]
    TooLarge {
        /// The size in bytes.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// The file is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// Arrays and tables are nested too deeply.
    #[error("values are nested more than {0} levels deep")]
    TooDeep(usize),
    /// With its defaults filled in, the recipe would be much larger than its text.
    #[error("with the defaults filled in, the derivations have more than {0} values")]
    TooManyValues(usize),
    /// A derivation with a great many outputs.
    #[error("a derivation has more than {0} outputs")]
    TooManyOutputs(usize),
    /// A key that means nothing where it is.
    #[error("{place} has no attribute '{key}'")]
    UnknownAttribute {
        /// What has the key.
        place: String,
        /// The key.
        key: String,
    },
    /// A key that must be there.
    #[error("{place} lacks the attribute '{key}'")]
    MissingAttribute {
        /// What lacks the key.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// Keys that exclude each other.
    #[error("{place} cannot have both '{one}' and '{other}'")]
    Conflict {
        /// What has the keys.
        place: String,
        /// One key.
        one: &'static str,
        /// The other key.
        other: &'static str,
    },
    /// A value of another type than is expected.
    #[error("{what} must be {expected}, not {found}")]
    WrongType {
        /// What has the value.
        what: String,
        /// What it can be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value of the right type that is none of those possible.
    #[error("{what} must be {expected}, not '{found}'")]
    WrongValue {
        /// What has the value.
        what: String,
        /// What it can be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A name that a source or derivation cannot have in a recipe.
    #[error("{kind} cannot be named '{name}': {reason}")]
    InvalidName {
        /// "a source" or "a derivation".
        kind: &'static str,
        /// The name.
        name: String,
        /// What a name must be.
        reason: &'static str,
    },
    /// A name that no store path can have.
    #[error("{place}: {error}")]
    InvalidStoreName {
        /// Whose name it is.
        place: String,
        /// What is wrong with it.
        error: InvalidName,
    },
    /// A string that should be the path of something in the store.
    #[error("'{path}' cannot be used as a store path: {error}")]
    InvalidStorePath {
        /// The string.
        path: String,
        /// What is wrong with it.
        error: InvalidStorePath,
    },
    /// A derivation that makes nothing.
    #[error("derivation '{0}' has no outputs")]
    NoOutputs(String),
    /// An output listed twice.
    #[error("derivation '{derivation}' has the output '{output}' twice")]
    DuplicateOutput {
        /// The derivation.
        derivation: String,
        /// The output.
        output: String,
    },
    /// A derivation with a stated hash and other outputs than `out`.
    #[error("derivation '{0}' has an 'outputHash' and so can have no other output than 'out'")]
    FixedOutputs(String),
    /// A variable that the environment cannot hold, or that something else determines.
    #[error("{place} cannot set the variable '{name}': {reason}")]
    InvalidVariable {
        /// The derivation, or the defaults.
        place: String,
        /// The variable.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A number that Nix's integers (64 bits, signed) do not hold.
    #[error("the integer {0} does not fit in 64 bits")]
    IntegerRange(String),
    /// An infinite number or one that is not a number.
    #[error("{0} is no number that a derivation can hold")]
    NotFinite(String),
    /// A string with the character NUL, which ends strings in the environment.
    #[error("{0} has the character NUL, which no environment variable, argument or path can hold")]
    Nul(String),
    /// A text between `${` and `}` that is no reference.
    #[error(transparent)]
    Interpolation(#[from] InvalidReference),
    /// A reference to a derivation that is not in the recipe.
    #[error("no derivation is named '{0}'")]
    UnknownDerivation(String),
    /// A reference to a source that is not in the recipe.
    #[error("no source is named '{0}'")]
    UnknownSource(String),
    /// A reference to an output that a derivation does not have.
    #[error("derivation '{derivation}' has no output '{output}'")]
    UnknownOutput {
        /// The derivation.
        derivation: String,
        /// The output.
        output: String,
    },
    /// Derivations that need each other.
    #[error("{}", cycle_text(.0))]
    Cycle(Vec<String>),
    /// A pattern that is none.
    #[error("'{pattern}' cannot be a pattern: {error}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: InvalidPattern,
    },
    /// A hash that cannot be read.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
    /// Attributes that make no derivation together.
    #[error("derivation '{derivation}': {error}")]
    Derivation {
        /// The derivation.
        derivation: String,
        /// What is wrong.
        error: Box<UnfilledErrorKind>,
    },
    /// A derivation that cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A derivation that cannot be hashed.
    #[error(transparent)]
    Hashing(#[from] HashModuloError),
    /// The store did not take a source.
    #[error("cannot add source '{path}' to the store: {error}")]
    AddSource {
        /// The path, as the recipe has it.
        path: String,
        /// What the store says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The store did not take a derivation, or lacks what it refers to.
    #[error("cannot add derivation '{derivation}' to the store: {error}")]
    AddDerivation {
        /// The derivation.
        derivation: String,
        /// What the store says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The store has no such object and cannot get it.
    #[error("cannot use '{path}': {error}")]
    UseStorePath {
        /// The full path.
        path: String,
        /// What the store says.
        error: Box<dyn Error + Send + Sync>,
    },
}

/// How many derivations of a circle a message names.
const SHOWN_NAMES: usize = 12;

fn cycle_text(names: &[String]) -> String {
    let quoted = |name: &String| format!("'{name}'");
    let circle: Vec<String> = match names {
        [one] => return format!("derivation '{one}' refers to itself"),
        [some @ .., _] if names.len() > SHOWN_NAMES => {
            let shown = some.iter().take(SHOWN_NAMES - 1).map(quoted);
            let more = format!("… {} more …", names.len() - (SHOWN_NAMES - 1));
            shown.chain([more]).chain(names.first().map(quoted)).collect()
        }
        _ => names.iter().chain(names.first()).map(quoted).collect(),
    };
    format!("derivations refer to each other in a circle: {}", circle.join(" -> "))
}

/// A problem at a place in the text.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) problem: Box<Problem>,
    pub(crate) at: Option<Span>,
    pub(crate) notes: Vec<(Span, String)>,
    pub(crate) help: Option<String>,
}

impl Mistake {
    pub(crate) fn new(problem: impl Into<Problem>, at: Span) -> Self {
        Self { problem: Box::new(problem.into()), at: Some(at), notes: Vec::new(), help: None }
    }

    /// A problem that no place in the text has.
    pub(crate) fn of_file(problem: Problem) -> Self {
        Self { problem: Box::new(problem), at: None, notes: Vec::new(), help: None }
    }

    /// Adds another place that has to do with it.
    pub(crate) fn note(mut self, at: Span, text: impl Into<String>) -> Self {
        self.notes.push((at, text.into()));
        self
    }

    /// Adds advice.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Adds "did you mean", if there is something to suggest.
    pub(crate) fn did_you_mean(self, suggestion: Option<&str>) -> Self {
        match suggestion {
            Some(name) => self.help(format!("did you mean '{name}'?")),
            None => self,
        }
    }
}

/// Something wrong with a recipe: what, where, and often what to do about it.
///
/// Its `Display` has several lines without a newline at the end: `FILE:LINE:COLUMN: what is wrong`, an excerpt of the
/// recipe with carets below the place, other places concerned, and advice.
#[derive(Debug)]
pub struct RecipeError {
    problem: Box<Problem>,
    position: Option<Position>,
    message: String,
}

impl RecipeError {
    pub(crate) fn new(text: &SourceText, mistake: Mistake) -> Self {
        let Mistake { problem, at, notes, help } = mistake;
        let position = at.as_ref().map(|span| text.position(span.start));
        let mut lines = match position {
            Some(position) => vec![format!("{}:{position}: {problem}", text.file)],
            None => vec![format!("{}: {problem}", text.file)],
        };
        lines.extend(at.map(|span| text.excerpt(&span)));
        for (span, note) in notes {
            lines.push(format!("{}:{}: note: {note}", text.file, text.position(span.start)));
            lines.push(text.excerpt(&span));
        }
        lines.extend(help.map(|help| format!("help: {help}")));
        Self { problem, position, message: lines.join("\n") }
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Where in the recipe.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Its message holds that of what caused it, so there is no source to be shown besides.
impl Error for RecipeError {}
