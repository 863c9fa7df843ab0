//! `builtin:buildenv`: one tree of links that shows several packages as if they were one.
//!
//! `derivations` is a list of words: for each derivation `false` if it isn't active (anything else if it is), its
//! priority, the number of its outputs, and their paths. The environment is put together in memory
//! ([`forest`]) and then written, so that a conflict leaves nothing behind.

mod forest;
mod packages;

use crate::attributes::{Attributes, path};
use crate::error::{BuiltinError, During as _};
use crate::log::Log;
use forest::Forest;
use packages::{parse_packages, propagated_packages};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::symlink;

/// The priority of the first package that another one has propagated; each further one comes after it.
const FIRST_PROPAGATED_PRIORITY: i64 = 1000;

/// Makes the environment.
pub(crate) fn run(attributes: Attributes<'_>, log: &mut Log<'_>) -> Result<(), BuiltinError> {
    let out = attributes.out()?;
    let mut packages = parse_packages(attributes.get("derivations")?)?;
    let manifest = path(attributes.get("manifest")?);

    // The more important ones first, so that less is replaced later.
    packages.sort_by(|a, b| (a.priority, &a.path).cmp(&(b.priority, &b.path)));
    let mut forest = Forest::new(out.clone());
    let mut done = HashSet::new();
    let mut propagated = BTreeSet::new();
    for package in packages.into_iter().filter(|package| package.active) {
        if done.insert(package.path.clone()) {
            forest.add(&package.path, package.priority, log)?;
            propagated
                .extend(propagated_packages(&package.path)?.into_iter().filter(|path| !done.contains(path)));
        }
    }

    // What packages bring along gives way to what was asked for.
    let mut priority = FIRST_PROPAGATED_PRIORITY;
    while !propagated.is_empty() {
        let mut further = BTreeSet::new();
        for package in std::mem::take(&mut propagated) {
            if done.insert(package.clone()) {
                forest.add(&package, priority, log)?;
                further
                    .extend(propagated_packages(&package)?.into_iter().filter(|path| !done.contains(path)));
            }
            priority += 1;
        }
        propagated = further;
    }

    fs::create_dir_all(&out).during("create directory", &out)?;
    forest.write()?;
    let link = out.join("manifest.nix");
    symlink(&manifest, &link).during("create symlink", &link)
}
