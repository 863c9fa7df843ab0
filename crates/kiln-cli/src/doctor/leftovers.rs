//! What processes that were killed have left.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Facts, Finding};

const AREA: &str = "Leftovers";

/// Most entries of the store that are looked at.
const MOST: usize = 5_000_000;

/// Counts what looks left over. Builds that are under way have such things, too.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let locations = &facts.locations;
    let chroots = count(&locations.real_dir, |name| name.ends_with(b".chroot"));
    let locks = count(&locations.real_dir, |name| name.ends_with(b".lock"));
    let builds = count(&locations.build_dir, |name| name.starts_with(b"nix-build-"));
    let (chroots, locks) = match (chroots, locks) {
        (Ok(chroots), Ok(locks)) => (chroots, locks),
        _ => return vec![Finding::note(AREA, "this user cannot list the store")],
    };
    let builds = builds.unwrap_or(0);
    if chroots + locks + builds == 0 {
        return vec![Finding::ok(AREA, "no directory or lock of a build is there")];
    }
    let text = format!(
        "{chroots} directories of sandboxes, {locks} lock files and {builds} build directories are there"
    );
    vec![Finding::note(AREA, text).advise("if nothing is being built, the next build or 'kiln gc' clears up what killed processes have left; directories kept by '--keep-failed' are yours to delete")]
}

fn count(directory: &Path, is_meant: impl Fn(&[u8]) -> bool) -> std::io::Result<usize> {
    let entries = fs::read_dir(directory)?.take(MOST).filter_map(Result::ok);
    Ok(entries.filter(|entry| is_meant(entry.file_name().as_bytes())).count())
}
