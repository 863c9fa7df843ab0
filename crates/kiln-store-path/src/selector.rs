//! What is wanted: a path as it is, or outputs of a derivation.

use std::collections::BTreeSet;
use std::fmt;

use crate::name::{InvalidName, OutputName};
use crate::store_dir::StoreDir;
use crate::store_path::{InvalidStorePath, StorePath};

/// Which outputs of a derivation are wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputsSpec {
    /// All that it has.
    All,
    /// Just these; never empty.
    Names(BTreeSet<OutputName>),
}

impl OutputsSpec {
    /// Whether `output` is wanted.
    pub fn contains(&self, output: &OutputName) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(output),
        }
    }

    /// Wants what either wants.
    #[must_use]
    pub fn union(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Names(mut names), Self::Names(more)) => {
                names.extend(more.iter().cloned());
                Self::Names(names)
            }
            _ => Self::All,
        }
    }

    /// Whether all that `other` wants is wanted.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Names(_), Self::All) => false,
            (Self::Names(names), Self::Names(others)) => names.is_superset(others),
        }
    }

    /// Reads `*` or names separated by commas.
    ///
    /// # Errors
    /// A name that is none, or no name at all.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        if text == "*" {
            return Ok(Self::All);
        }
        text.split(',')
            .map(|name| OutputName::new(name).map_err(|error| output_error(name, error)))
            .collect::<Result<_, _>>()
            .map(Self::Names)
    }
}

impl fmt::Display for OutputsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Names(names) => {
                for (index, name) in names.iter().enumerate() {
                    write!(f, "{}{name}", if index > 0 { "," } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// A store path, or one output of the derivation that such a thing is: `DRV^OUTPUT^OUTPUT…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SingleDerivedPath {
    /// The path that the way starts at.
    pub path: StorePath,
    /// The outputs to follow: each but the last is a derivation itself.
    pub outputs: Vec<OutputName>,
}

impl From<StorePath> for SingleDerivedPath {
    fn from(path: StorePath) -> Self {
        Self { path, outputs: Vec::new() }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivedPath {
    /// A path as it is: valid, or to be substituted.
    Opaque(StorePath),
    /// Outputs of a derivation.
    Built {
        /// The derivation.
        derivation: SingleDerivedPath,
        /// Which of its outputs.
        outputs: OutputsSpec,
    },
}

/// Why a text says nothing that could be wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSelectorError {
    /// The part before the outputs is no store path.
    #[error(transparent)]
    Path(#[from] InvalidStorePath),
    /// The outputs are not well formed.
    #[error("'{output}' is not a valid output name: {error}")]
    Output {
        /// The text of the output.
        output: String,
        /// What is wrong with it.
        error: InvalidName,
    },
}

fn output_error(output: &str, error: InvalidName) -> ParseSelectorError {
    ParseSelectorError::Output { output: output.chars().take(80).collect(), error }
}

impl DerivedPath {
    /// Reads `PATH`, `DRV^OUTPUT,OUTPUT…` or `DRV^*`, the form of newer command lines; outputs of outputs nest.
    ///
    /// # Errors
    /// See [`ParseSelectorError`].
    pub fn parse(store_dir: &StoreDir, text: &str) -> Result<Self, ParseSelectorError> {
        let Some((derivation, outputs)) = text.rsplit_once('^') else {
            return Ok(Self::Opaque(store_dir.parse(text)?));
        };
        let outputs = OutputsSpec::parse(outputs)?;
        let mut parts = derivation.split('^');
        let path = store_dir.parse(parts.next().unwrap_or_default())?;
        let between = parts.map(|name| OutputName::new(name).map_err(|error| output_error(name, error)));
        let derivation = SingleDerivedPath { path, outputs: between.collect::<Result<_, _>>()? };
        Ok(Self::Built { derivation, outputs })
    }

    /// Reads `PATH`, `DRV` (all outputs) or `DRV!OUTPUT,OUTPUT…`, the form of older command lines and protocols.
    ///
    /// # Errors
    /// See [`ParseSelectorError`].
    pub fn parse_legacy(store_dir: &StoreDir, text: &str) -> Result<Self, ParseSelectorError> {
        let (path, outputs) = match text.split_once('!') {
            Some((path, outputs)) => (store_dir.parse(path)?, OutputsSpec::parse(outputs)?),
            None => (store_dir.parse(text)?, OutputsSpec::All),
        };
        if path.is_derivation() || text.contains('!') {
            Ok(Self::Built { derivation: path.into(), outputs })
        } else {
            Ok(Self::Opaque(path))
        }
    }

    /// Writes the newer form.
    pub fn print(&self, store_dir: &StoreDir) -> String {
        match self {
            Self::Opaque(path) => store_dir.print(path),
            Self::Built { derivation, outputs } => {
                let mut text = store_dir.print(&derivation.path);
                for output in &derivation.outputs {
                    text.push('^');
                    text.push_str(output.as_str());
                }
                format!("{text}^{outputs}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRV: &str = "/nix/store/4gd87ivd2zhmmqkslb944cwpzpz256w1-simple.drv";

    #[test]
    fn the_newer_form_reads_and_prints() {
        let store_dir = StoreDir::default();
        for text in [
            DRV.to_owned(),
            format!("{DRV}^out"),
            format!("{DRV}^dev,out"),
            format!("{DRV}^*"),
            format!("{DRV}^out^bin"),
        ] {
            assert_eq!(DerivedPath::parse(&store_dir, &text).unwrap().print(&store_dir), text);
        }
    }

    #[test]
    fn the_older_form_takes_a_bare_derivation_as_all_outputs() {
        let store_dir = StoreDir::default();
        let print = |text: &str| DerivedPath::parse_legacy(&store_dir, text).unwrap().print(&store_dir);
        assert_eq!(print(DRV), format!("{DRV}^*"));
        assert_eq!(print(&format!("{DRV}!dev")), format!("{DRV}^dev"));
        let plain = "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
        assert_eq!(print(plain), plain);
    }

    #[test]
    fn refuses_outputs_that_are_none() {
        let store_dir = StoreDir::default();
        for suffix in ["^", "^a,", "^,a", "^a b", "^^out", "^out^"] {
            assert!(DerivedPath::parse(&store_dir, &format!("{DRV}{suffix}")).is_err(), "{suffix}");
        }
        assert!(DerivedPath::parse(&store_dir, "out^out").is_err());
    }

    #[test]
    fn a_union_wants_both() {
        let names = |names: &[&str]| {
            OutputsSpec::Names(names.iter().map(|name| OutputName::new(name).unwrap()).collect())
        };
        assert_eq!(names(&["a"]).union(&names(&["b"])), names(&["a", "b"]));
        assert_eq!(names(&["a"]).union(&OutputsSpec::All), OutputsSpec::All);
        assert!(OutputsSpec::All.covers(&names(&["a"])));
        assert!(names(&["a", "b"]).covers(&names(&["a"])) && !names(&["a"]).covers(&OutputsSpec::All));
    }
}
