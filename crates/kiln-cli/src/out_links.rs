//! The links that a build leaves to its outputs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kiln_build::BuildAnswer;
use kiln_store_path::{DerivedPath, OutputName, StorePath};

use crate::any_store::StoreView;
use crate::failure::{Failure, While};
use crate::session::Session;

/// Leaves links to the outputs of all targets that were built, which keep them from being collected as garbage.
pub(crate) fn leave<S: StoreView>(
    session: &Session<S>,
    prefix: &Path,
    answer: &BuildAnswer,
) -> Result<(), Failure> {
    for (index, result) in answer.results.iter().enumerate().filter(|(_, result)| result.result.is_success())
    {
        let outputs: Vec<(Option<&OutputName>, &StorePath)> = match &result.target {
            DerivedPath::Opaque(path) => vec![(None, path)],
            DerivedPath::Built { .. } => {
                result.outputs.iter().map(|(name, path)| (Some(name), path)).collect()
            }
        };
        for (output, path) in outputs {
            let link = link(prefix, index, output);
            session
                .wait(session.store.add_out_link(&link, path))
                .doing(|| format!("linking '{}' to '{}'", link.display(), session.print(path)))?;
        }
    }
    Ok(())
}

/// The link to one output of the target with this index: `PREFIX` for the first, `PREFIX-1` for the second, and so on;
/// with `-OUTPUT` after it unless it is the output `out`.
fn link(prefix: &Path, index: usize, output: Option<&OutputName>) -> PathBuf {
    let mut name: OsString = prefix.as_os_str().to_owned();
    if index > 0 {
        name.push(format!("-{index}"));
    }
    if let Some(output) = output.filter(|output| !output.is_out()) {
        name.push(format!("-{output}"));
    }
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nix() {
        let dev = OutputName::new("dev").unwrap();
        for (index, output, name) in [
            (0, Some(OutputName::out()), "a/result"),
            (0, None, "a/result"),
            (0, Some(dev.clone()), "a/result-dev"),
            (2, Some(OutputName::out()), "a/result-2"),
            (2, Some(dev), "a/result-2-dev"),
        ] {
            assert_eq!(link(Path::new("a/result"), index, output.as_ref()), Path::new(name));
        }
    }
}
