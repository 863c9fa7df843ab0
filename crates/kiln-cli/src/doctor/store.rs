//! The store's directories: whether they are there, whose they are, and who may write to them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Facts, Finding};

const AREA: &str = "Store";

/// Looks at the directories.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let locations = &facts.locations;
    let mut findings = Vec::new();
    let store = &locations.real_dir;
    match fs::symlink_metadata(store) {
        Ok(metadata) if metadata.is_dir() => findings.extend(permissions(facts, store, &metadata)),
        Ok(_) => findings.push(
            Finding::problem(AREA, format!("'{}' is no directory", store.display()))
                .advise("a store behind a symbolic link needs '--store' with the real directory"),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => findings.push(
            Finding::note(AREA, format!("there is no store at '{}' yet", store.display()))
                .advise("the daemon makes it when it starts, and 'kiln build' as root"),
        ),
        Err(error) => {
            findings.push(Finding::problem(AREA, format!("cannot look at '{}': {error}", store.display())))
        }
    }
    for ancestor in store.ancestors().skip(1).take_while(|path| path.parent().is_some()) {
        findings.extend(writable_by_others(ancestor));
    }
    findings.extend(writable_by_others(&locations.state_dir));
    if let Ok(status) = statvfs(store)
        && status.f_flag.contains(StatVfsMountFlags::RDONLY)
    {
        findings.push(
            Finding::note(AREA, format!("'{}' is mounted read-only here", store.display()))
                .advise("that is usual where only the daemon may write; the daemon needs a mount of its own that it can write to"),
        );
    }
    findings
}

fn permissions(facts: &Facts<'_>, store: &Path, metadata: &fs::Metadata) -> Vec<Finding> {
    let (place, mode, owner) = (store.display(), metadata.mode() & 0o7777, metadata.uid());
    let mut findings = Vec::new();
    if owner != 0 && facts.is_root {
        findings.push(
            Finding::warning(AREA, format!("'{place}' belongs to user {owner} and not to root, who can thus change all that root runs from it"))
                .advise("'chown root' the store, unless it is a user's own"),
        );
    }
    if mode & 0o002 != 0 {
        findings.push(
            Finding::problem(AREA, format!("everybody can write to '{place}' (mode {mode:04o})"))
                .advise(format!("chmod 1775 {place}")),
        );
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(AREA, format!("'{place}' is a directory of user {owner} (mode {mode:04o})")));
    }
    findings
}

fn writable_by_others(path: &Path) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    // With the sticky bit nobody replaces what is another's.
    let is_open = metadata.mode() & 0o002 != 0 && metadata.mode() & 0o1000 == 0;
    is_open.then(|| {
        let place = path.display();
        Finding::problem(AREA, format!("everybody can write to '{place}', and so replace what is in it"))
            .advise(format!("chmod o-w {place}"))
    })
}
