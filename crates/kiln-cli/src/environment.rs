//! What the process was given besides its arguments: read once, then passed down.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Environment variables and arguments of this run.
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// The command line, the program's own name first.
    pub(crate) arguments: Vec<OsString>,
}

impl Environment {
    /// Reads the process's.
    pub(crate) fn read() -> Self {
        Self { variables: std::env::vars_os().collect(), arguments: std::env::args_os().collect() }
    }

    /// The value of a variable.
    pub(crate) fn value(&self, name: &str) -> Option<OsString> {
        self.variables.get(OsStr::new(name)).cloned()
    }

    /// The value of a variable if it is text and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name))?.to_str().filter(|value| !value.is_empty())
    }

    /// All variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone()))
    }
}
