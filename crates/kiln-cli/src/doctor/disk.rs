//! Disk space, and inodes.

use std::path::Path;

use rustix::fs::statvfs;

use super::{Facts, Finding};
use crate::units::mebibytes;

const AREA: &str = "Disk";

/// Fewer bytes than these are hardly enough for a build.
const SHORT: u64 = 1 << 30;

/// One in so many inodes should be free.
const SHARE_OF_INODES: u64 = 50;

/// Looks at the file systems of the store, of its database and of builds.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let locations = &facts.locations;
    let places = [
        ("the store", &locations.real_dir),
        ("the database", &locations.state_dir),
        ("builds", &locations.build_dir),
    ];
    let mut findings = Vec::new();
    for (what, place) in places {
        // What is not there yet will be where its nearest ancestor is.
        let Some(place) = place.ancestors().find(|path| path.exists()) else { continue };
        findings.extend(look(what, place, facts.settings().min_free));
    }
    findings
}

fn look(what: &str, place: &Path, min_free: u64) -> Vec<Finding> {
    let status = match statvfs(place) {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::warning(AREA, format!("cannot look at '{}': {error}", place.display()))];
        }
    };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let shown = format!("{} are free for {what}, at '{}'", mebibytes(free), place.display());
    let mut findings = vec![if free < SHORT {
        Finding::warning(AREA, shown).advise("'kiln gc' deletes what nothing needs")
    } else if min_free > 0 && free < min_free {
        Finding::note(
            AREA,
            format!("{shown}: less than 'min-free', so that the next build begins by collecting garbage"),
        )
    } else {
        Finding::ok(AREA, shown)
    }];
    // Some file systems have none to count.
    if status.f_files > 0 && status.f_favail < status.f_files / SHARE_OF_INODES {
        findings.push(
            Finding::warning(
                AREA,
                format!(
                    "only {} of {} inodes are free at '{}'",
                    status.f_favail,
                    status.f_files,
                    place.display()
                ),
            )
            .advise("'kiln gc' and 'kiln store optimise' free inodes"),
        );
    }
    findings
}
