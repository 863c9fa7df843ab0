//! Where a path came from, and why not from elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use kiln_store_path::StorePath;
use kiln_substitute::Search;

/// What substituters have said of some paths.
pub(crate) type Origins = BTreeMap<StorePath, Origin>;

/// What came of asking substituters for a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The one that gave it, if one did.
    pub substituter: Option<String>,
    /// Those that did not, of all that have answered: nobody waits for the others once one has given it.
    pub passed_over: Vec<PassedOver>,
}

/// A substituter that did not give a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its URL.
    pub substituter: String,
    /// Why.
    pub reason: Reason,
}

/// Why a substituter did not give a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It doesn't have it.
    Absent,
    /// It could not be asked, as the error says.
    Unusable(String),
    /// Nothing vouches for what it says.
    Untrusted(String),
    /// What the path refers to was not to be had.
    Incomplete,
    /// What it offered was not to be had, or not what it should be, as the error says.
    Broken(String),
}

impl Reason {
    /// The reason in one word, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Unusable(_) => "unusable",
            Self::Untrusted(_) => "untrusted",
            Self::Incomplete => "incomplete",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("it does not have it"),
            Self::Incomplete => f.write_str("what it refers to was not to be had"),
            Self::Unusable(why) | Self::Untrusted(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

impl Origin {
    pub(crate) fn pass_over(&mut self, substituter: &str, reason: Reason) {
        self.passed_over.push(PassedOver { substituter: substituter.to_owned(), reason });
    }

    /// Notes who could not offer the path at all.
    pub(crate) fn note(&mut self, search: &Search) {
        search.absent().for_each(|substituter| self.pass_over(substituter, Reason::Absent));
        for trouble in search.troubles() {
            if let Some(substituter) = trouble.failed_substituter() {
                self.pass_over(substituter, Reason::Unusable(trouble.to_string()));
            }
        }
    }
}

/// Why nobody gave the path, for people.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PassedOver { substituter, reason } in &self.passed_over {
            write!(f, "\n  {substituter}: {reason}")?;
        }
        Ok(())
    }
}
