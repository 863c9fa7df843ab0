//! What a derivation demands of its outputs beyond their being there (O6).

use std::collections::{BTreeMap, BTreeSet};

use kiln_derivation::{Derivation, IllegalReferenceSpecifier, OutputCheck, ReferenceSpecifier};
use kiln_narinfo::PathInfo;
use kiln_store_path::{OutputName, StoreDir, StorePath};

/// What the checks need to know of paths: the outputs that are about to be registered, and what they refer to.
pub(crate) type Infos = BTreeMap<StorePath, PathInfo>;

/// An output that is not what the derivation allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Specifier(#[from] IllegalReferenceSpecifier),
    #[error("path '{path}' is too large at {size} bytes; limit is {limit} bytes")]
    TooLarge { path: String, size: u64, limit: u64 },
    #[error("closure of path '{path}' is too large at {size} bytes; limit is {limit} bytes")]
    ClosureTooLarge { path: String, size: u64, limit: u64 },
    #[error("output '{output}' is not allowed to refer to the following paths:{paths}")]
    Reference { output: String, paths: String },
}

/// Whether a check looks further than at the output's own references, so that the infos of its closure are needed.
pub(crate) fn needs_closure(check: &OutputCheck) -> bool {
    check.max_closure_size.is_some()
        || check.allowed_requisites.is_some()
        || !check.disallowed_requisites.is_empty()
}

/// Checks one output. `outputs` are the paths of all outputs of the derivation, by which the lists may name them.
pub(crate) fn check_output(
    store_dir: &StoreDir,
    derivation: &Derivation,
    outputs: &BTreeMap<OutputName, StorePath>,
    info: &PathInfo,
    check: &OutputCheck,
    infos: &Infos,
) -> Result<(), CheckError> {
    let path = || store_dir.print(&info.path);
    let specified = |list: &BTreeSet<Vec<u8>>| -> Result<BTreeSet<StorePath>, CheckError> {
        let parsed = list.iter().map(|text| ReferenceSpecifier::parse(text, derivation, store_dir));
        let paths = parsed.map(|specifier| {
            Ok(match specifier? {
                ReferenceSpecifier::Path(path) => Some(path),
                ReferenceSpecifier::Output(name) => outputs.get(&name).cloned(),
            })
        });
        paths.filter_map(Result::transpose).collect()
    };
    if let Some(limit) = check.max_size.filter(|limit| info.nar_size > *limit) {
        return Err(CheckError::TooLarge { path: path(), size: info.nar_size, limit });
    }
    let mut requisites = if needs_closure(check) { closure(&info.path, infos) } else { BTreeSet::new() };
    if let Some(limit) = check.max_closure_size {
        let size = requisites.iter().filter_map(|path| infos.get(path)).map(|info| info.nar_size).sum();
        if size > limit {
            return Err(CheckError::ClosureTooLarge { path: path(), size, limit });
        }
    }
    if !check.counts_itself_as_requisite {
        requisites.remove(&info.path);
    }
    let refuse = |paths: Vec<&StorePath>| {
        if paths.is_empty() {
            return Ok(());
        }
        let paths = paths.into_iter().map(|path| format!("\n  {}", store_dir.display(path))).collect();
        Err(CheckError::Reference { output: path(), paths })
    };
    let not_in = |used: &BTreeSet<StorePath>, allowed: &Option<BTreeSet<Vec<u8>>>| match allowed {
        Some(allowed) => {
            let allowed = specified(allowed)?;
            refuse(used.iter().filter(|path| !allowed.contains(*path)).collect())
        }
        None => Ok(()),
    };
    let among = |used: &BTreeSet<StorePath>, disallowed: &BTreeSet<Vec<u8>>| {
        let disallowed = specified(disallowed)?;
        refuse(used.iter().filter(|path| disallowed.contains(*path)).collect())
    };
    not_in(&info.references, &check.allowed_references)?;
    not_in(&requisites, &check.allowed_requisites)?;
    among(&info.references, &check.disallowed_references)?;
    among(&requisites, &check.disallowed_requisites)
}

/// The path and all that it refers to, as far as it is known.
fn closure(path: &StorePath, infos: &Infos) -> BTreeSet<StorePath> {
    let mut found = BTreeSet::new();
    let mut open = vec![path];
    while let Some(path) = open.pop() {
        if found.insert(path.clone())
            && let Some(info) = infos.get(path)
        {
            open.extend(&info.references);
        }
    }
    found
}
