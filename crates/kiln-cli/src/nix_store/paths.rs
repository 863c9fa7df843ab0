//! What arguments mean: store paths, paths within them, links to them, outputs of derivations.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_store::absolute_path;
use kiln_store_path::{DerivedPath, OutputName, OutputsSpec, StorePath};

use crate::any_store::StoreView;
use crate::failure::{Failure, While};
use crate::session::Session;

/// How many links may lead to a store path.
const MAX_LINKS: usize = 64;

/// The store path that an argument names, is within, or is a link to, or a link to such a link. Unlike elsewhere in Kiln,
/// what is only reached through a link to a path is refused, as Nix refuses it.
pub(super) fn store_path<S: StoreView>(session: &Session<S>, argument: &OsStr) -> Result<StorePath, Failure> {
    let argument = if argument.is_empty() { OsStr::new(".") } else { argument };
    let store_dir = Path::new(session.store_dir().as_str());
    let mut path = absolute_path(Path::new(argument))?;
    for _ in 0..MAX_LINKS {
        if path != store_dir && path.starts_with(store_dir) {
            return Ok(session.store_dir().split(path.as_os_str().as_bytes())?.0);
        }
        let status = path.symlink_metadata().doing(|| format!("getting status of '{}'", path.display()))?;
        let (true, Some(directory)) = (status.is_symlink(), path.parent()) else {
            return Err(Failure::input(format!("path '{}' is not in the Nix store", path.display())));
        };
        let target = path.read_link().doing(|| format!("reading the link '{}'", path.display()))?;
        path = absolute_path(&directory.join(target))?;
    }
    Err(Failure::input(format!(
        "'{}' leads through more than {MAX_LINKS} symbolic links",
        argument.display()
    )))
}

/// The store paths that the arguments name.
pub(super) fn store_paths<S: StoreView>(
    session: &Session<S>,
    arguments: &[OsString],
) -> Result<Vec<StorePath>, Failure> {
    arguments.iter().map(|argument| store_path(session, argument)).collect()
}

/// What an argument of `--realise` wants: a path, all outputs of a derivation, or some of them (`DRV!OUT,DEV`).
pub(super) fn wanted<S: StoreView>(session: &Session<S>, argument: &OsStr) -> Result<DerivedPath, Failure> {
    let bytes = argument.as_bytes();
    let (path, outputs) = match bytes.iter().position(|byte| *byte == b'!') {
        Some(end) => bytes.split_at_checked(end).unwrap_or((bytes, &[])),
        None => (bytes, &[][..]),
    };
    let path = store_path(session, OsStr::from_bytes(path))?;
    let names = outputs.split(|byte| matches!(byte, b'!' | b',')).filter(|name| !name.is_empty());
    let names = names.map(output_name).collect::<Result<BTreeSet<_>, _>>()?;
    Ok(match (names.is_empty(), path.is_derivation()) {
        (true, false) => DerivedPath::Opaque(path),
        (true, true) => DerivedPath::Built { derivation: path.into(), outputs: OutputsSpec::All },
        (false, true) => DerivedPath::Built { derivation: path.into(), outputs: OutputsSpec::Names(names) },
        (false, false) => {
            return Err(Failure::input(format!(
                "'{}' is not a derivation and has no outputs",
                session.print(&path)
            )));
        }
    })
}

fn output_name(name: &[u8]) -> Result<OutputName, Failure> {
    Ok(OutputName::new(&*String::from_utf8_lossy(name))?)
}

/// The derivation that a path is, or was built by.
pub(super) fn deriver<S: StoreView>(session: &Session<S>, path: StorePath) -> Result<StorePath, Failure> {
    if path.is_derivation() {
        return Ok(path);
    }
    match &session.path_info(&path)?.deriver {
        Some(deriver) => Ok(deriver.clone()),
        None => Err(Failure::input(format!("deriver of path '{}' is not known", session.print(&path)))),
    }
}

/// Full paths, one per line.
pub(super) fn lines<'a, S: StoreView>(
    session: &Session<S>,
    paths: impl IntoIterator<Item = &'a StorePath>,
) -> String {
    paths.into_iter().map(|path| session.print(path) + "\n").collect()
}
