//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use crate::nix_conf::SourceError;
use crate::value::ValueError;

/// A place in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file, or the name of what isn't one (`NIX_CONFIG`).
    pub file: PathBuf,
    /// Line, counted from 1.
    pub line: u64,
    /// Column in bytes, counted from 1.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Why a configuration can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A line that says nothing.
    #[error("{position}: illegal configuration line '{line}': expected {expected}")]
    Line {
        /// Where.
        position: Position,
        /// The line without its comment.
        line: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// A value that the setting can't have.
    #[error("{}setting '{name}' has invalid value '{value}': {reason}", place(.position.as_ref()))]
    Value {
        /// Where, if in a file.
        position: Option<Position>,
        /// The setting's primary name.
        name: &'static str,
        /// The value as it was written.
        value: String,
        /// What was expected.
        reason: ValueError,
    },
    /// An included file that isn't there.
    #[error("{position}: included file '{}' not found", .file.display())]
    IncludeNotFound {
        /// Where it is included.
        position: Position,
        /// The file.
        file: PathBuf,
    },
    /// Includes within includes without end.
    #[error("{position}: including '{}' here is too deep: expected at most {limit} files within each other", .file.display())]
    IncludeTooDeep {
        /// Where it is included.
        position: Position,
        /// The file.
        file: PathBuf,
        /// How many are allowed.
        limit: usize,
    },
    /// More text than a configuration can have.
    #[error("{}: the configuration is too large: expected at most {limit} bytes in all files", .file.display())]
    TooLarge {
        /// The file that is too much.
        file: PathBuf,
        /// How many bytes are allowed.
        limit: usize,
    },
    /// A file that can't be read.
    #[error("cannot read configuration file '{}': {reason}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: SourceError,
    },
}

fn place(position: Option<&Position>) -> String {
    position.map_or_else(String::new, |position| format!("{position}: "))
}

/// Something odd that is no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A name that no setting has.
    #[error("unknown setting '{name}'{}", suggestion(*.similar))]
    Unknown {
        /// The name.
        name: String,
        /// A setting that may have been meant.
        similar: Option<&'static str>,
    },
    /// A setting of Nix that means nothing here.
    #[error("setting '{0}' has no effect in Kiln")]
    NoEffect(&'static str),
}

fn suggestion(similar: Option<&str>) -> String {
    similar.map_or_else(String::new, |similar| format!("; did you mean '{similar}'?"))
}
