//! Computing the paths of a derivation's outputs: to fill them in, and to check those that are stated.

use kiln_hash::Sha256;
use kiln_store_path::{MakePathError, OutputName, StorePath, StorePathName};

use crate::derivation::Derivation;
use crate::hash_modulo::{HashModuloCache, HashModuloError};
use crate::output::{DerivationOutput, fixed_output_path, shown};

/// Why the outputs of a derivation are not right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputPathError {
    /// The derivation has no hash.
    #[error(transparent)]
    Hash(#[from] HashModuloError),
    /// An output has no path.
    #[error("derivation '{derivation}': output '{output}' has no path: {error}")]
    MakePath {
        /// The derivation.
        derivation: StorePathName,
        /// The output.
        output: OutputName,
        /// Why.
        error: MakePathError,
    },
    /// The stated path is not the computed one.
    #[error("derivation '{derivation}' has incorrect output '{stated}', should be '{computed}'")]
    Incorrect {
        /// The derivation.
        derivation: StorePathName,
        /// The full path that the derivation states.
        stated: String,
        /// The full path that follows from the derivation.
        computed: String,
    },
    /// A path is stated that nobody can know yet.
    #[error(
        "derivation '{derivation}' states the path '{stated}' for its output '{output}', but it depends on a content-addressed derivation, so that the path cannot be known before the build"
    )]
    Premature {
        /// The derivation.
        derivation: StorePathName,
        /// The output.
        output: OutputName,
        /// The full path that the derivation states.
        stated: String,
    },
    /// No path is stated although it follows from the derivation.
    #[error(
        "derivation '{derivation}' leaves the path of its output '{output}' open, should be '{computed}'"
    )]
    LeftOpen {
        /// The derivation.
        derivation: StorePathName,
        /// The output.
        output: OutputName,
        /// The full path that follows from the derivation.
        computed: String,
    },
    /// The environment does not tell the builder the path.
    #[error("derivation '{derivation}' has missing environment variable '{output}', should be '{computed}'")]
    MissingVariable {
        /// The derivation.
        derivation: StorePathName,
        /// The output, which is the variable's name too.
        output: OutputName,
        /// What it should hold.
        computed: String,
    },
    /// The environment tells the builder another path.
    #[error(
        "derivation '{derivation}' has incorrect environment variable '{output}', should be '{computed}' but is actually '{actual}'"
    )]
    IncorrectVariable {
        /// The derivation.
        derivation: StorePathName,
        /// The output, which is the variable's name too.
        output: OutputName,
        /// What it should hold.
        computed: String,
        /// What it holds.
        actual: String,
    },
}

/// Checks that the paths of the outputs, in their descriptions and in the environment, follow from the derivation: what
/// must hold of every derivation that enters a store. The derivation's inputs must be known to `hashes`.
///
/// # Errors
/// See [`OutputPathError`].
pub fn check_outputs(derivation: &Derivation, hashes: &HashModuloCache) -> Result<(), OutputPathError> {
    let hash = hashes.masked(derivation)?;
    let store_dir = hashes.store_dir();
    for (output, description) in &derivation.outputs {
        let computed = match description {
            DerivationOutput::InputAddressed(stated) if hash.is_deferred => {
                return Err(OutputPathError::Premature {
                    derivation: derivation.name.clone(),
                    output: output.clone(),
                    stated: store_dir.print(stated),
                });
            }
            DerivationOutput::InputAddressed(_) => {
                input_addressed_path(derivation, output, hashes, &hash.hash)?
            }
            DerivationOutput::Fixed { address, .. } => {
                fixed_output_path(store_dir, &derivation.name, output, address)
                    .map_err(|error| no_path(derivation, output, error))?
            }
            DerivationOutput::Deferred if !hash.is_deferred => {
                let computed = input_addressed_path(derivation, output, hashes, &hash.hash)?;
                return Err(OutputPathError::LeftOpen {
                    derivation: derivation.name.clone(),
                    output: output.clone(),
                    computed: store_dir.print(&computed),
                });
            }
            DerivationOutput::Deferred
            | DerivationOutput::Floating { .. }
            | DerivationOutput::Impure { .. } => continue,
        };
        if let Some(stated) = description.path().filter(|stated| **stated != computed) {
            return Err(OutputPathError::Incorrect {
                derivation: derivation.name.clone(),
                stated: store_dir.print(stated),
                computed: store_dir.print(&computed),
            });
        }
        check_variable(derivation, output, store_dir.print(&computed))?;
    }
    Ok(())
}

/// Computes the paths of the outputs that are deferred but need not be, because all inputs are known, and puts them into
/// the environment as well. The derivation's inputs must be known to `hashes`.
///
/// The variables of such outputs must be there and empty (or hold the path already): they take part in the hash.
///
/// # Errors
/// See [`OutputPathError`].
pub fn fill_in_outputs(derivation: &mut Derivation, hashes: &HashModuloCache) -> Result<(), OutputPathError> {
    let hash = hashes.masked(derivation)?;
    let is_open = |description: &DerivationOutput| matches!(description, DerivationOutput::Deferred);
    if hash.is_deferred || !derivation.outputs.values().any(is_open) {
        return Ok(());
    }
    let outputs: Vec<OutputName> = derivation.outputs.keys().cloned().collect();
    for output in outputs {
        let path = input_addressed_path(derivation, &output, hashes, &hash.hash)?;
        let full_path = hashes.store_dir().print(&path);
        if derivation.environment.get(output.as_str().as_bytes()).is_none_or(|value| !value.is_empty()) {
            check_variable(derivation, &output, full_path.clone())?;
        }
        derivation.environment.insert(output.as_str().into(), full_path.into_bytes());
        derivation.outputs.insert(output, DerivationOutput::InputAddressed(path));
    }
    Ok(())
}

fn input_addressed_path(
    derivation: &Derivation,
    output: &OutputName,
    hashes: &HashModuloCache,
    hash: &Sha256,
) -> Result<StorePath, OutputPathError> {
    hashes
        .store_dir()
        .make_output_path(hash, &derivation.name, output)
        .map_err(|error| no_path(derivation, output, error))
}

fn no_path(derivation: &Derivation, output: &OutputName, error: MakePathError) -> OutputPathError {
    OutputPathError::MakePath { derivation: derivation.name.clone(), output: output.clone(), error }
}

/// Checks that the variable with the name of an output holds its path.
fn check_variable(
    derivation: &Derivation,
    output: &OutputName,
    computed: String,
) -> Result<(), OutputPathError> {
    match derivation.environment.get(output.as_str().as_bytes()) {
        None => Err(OutputPathError::MissingVariable {
            derivation: derivation.name.clone(),
            output: output.clone(),
            computed,
        }),
        Some(actual) if *actual != *computed.as_bytes() => Err(OutputPathError::IncorrectVariable {
            derivation: derivation.name.clone(),
            output: output.clone(),
            computed,
            actual: shown(actual),
        }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kiln_store_path::StoreDir;

    use super::*;
    use crate::aterm::Strictness;

    fn parse(name: &str, text: &str) -> Derivation {
        let name = StorePathName::new(name).unwrap();
        Derivation::parse_aterm(text.as_bytes(), &name, &StoreDir::default(), Strictness::Strict).unwrap()
    }

    /// A derivation that uses a content-addressed one, and hashes that know the latter.
    fn user_of_floating(output_path: &str, variable: &str) -> (Derivation, HashModuloCache) {
        let input = "00000000000000000000000000000000-ca.drv";
        let mut hashes = HashModuloCache::new(StoreDir::default());
        let floating = parse("ca", r#"Derive([("out","","r:sha256","")],[],[],"x","y",[],[])"#);
        hashes.insert(input.parse().unwrap(), &floating).unwrap();
        let text = format!(
            r#"Derive([("out","{output_path}","","")],[("/nix/store/{input}",["out"])],[],"x","y",[],[("out","{variable}")])"#
        );
        (parse("t", &text), hashes)
    }

    #[test]
    fn outputs_stay_open_while_an_input_is_unknown() {
        let (mut derivation, hashes) = user_of_floating("", "");
        let before = derivation.clone();
        assert_eq!(check_outputs(&derivation, &hashes), Ok(()));
        assert_eq!(fill_in_outputs(&mut derivation, &hashes), Ok(()));
        assert_eq!(derivation, before);
    }

    #[test]
    fn a_path_that_nobody_can_know_is_refused() {
        let path = "/nix/store/00000000000000000000000000000000-t";
        let (derivation, hashes) = user_of_floating(path, path);
        let error = check_outputs(&derivation, &hashes).unwrap_err();
        assert!(matches!(&error, OutputPathError::Premature { stated, .. } if stated == path), "{error}");
    }

    #[test]
    fn paths_are_filled_in_only_where_the_variables_wait_for_them() {
        let hashes = HashModuloCache::new(StoreDir::default());
        let open = |variables: &str| {
            let text =
                format!(r#"Derive([("dev","","",""),("out","","","")],[],[],"x","y",[],[{variables}])"#);
            parse("t", &text)
        };
        let mut derivation = open(r#"("dev",""),("out","")"#);
        fill_in_outputs(&mut derivation, &hashes).unwrap();
        assert_eq!(derivation.known_output_paths().count(), 2);
        assert_eq!(check_outputs(&derivation, &hashes), Ok(()));
        let missing = fill_in_outputs(&mut open(r#"("dev","")"#), &hashes);
        assert!(matches!(missing, Err(OutputPathError::MissingVariable { .. })), "{missing:?}");
        let wrong = fill_in_outputs(&mut open(r#"("dev","x"),("out","")"#), &hashes);
        assert!(matches!(wrong, Err(OutputPathError::IncorrectVariable { .. })), "{wrong:?}");
    }
}
