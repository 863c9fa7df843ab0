//! How much is below a directory that only one tree has.

use crate::limits::Limits;
use crate::listing::Listing;
use kiln_fs::{Component, Directory, Kind};

/// What is below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Below {
    /// How many entries were counted.
    pub(crate) entries: u64,
    /// Whether there are others.
    pub(crate) more: bool,
}

/// A directory on the way.
struct Level {
    directory: Directory,
    listing: Listing,
    next: usize,
}

/// Counts what is below the directory `name`, as far as `limits` allow, with `held` names being held already.
pub(crate) fn count_below(parent: &Directory, name: &Component, limits: &Limits, mut held: usize) -> Below {
    let room = |held| limits.entries.saturating_sub(held);
    let mut below = Below::default();
    let Some(top) = enter(parent, name, room(held)) else { return Below { more: true, ..below } };
    held += top.listing.len();
    let mut levels = vec![top];
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { break };
        let Some(name) = level.listing.component(level.next) else {
            held -= level.listing.len();
            levels.pop();
            continue;
        };
        if below.entries >= limits.entries_below {
            below.more = true;
            break;
        }
        below.entries += 1;
        level.next += 1;
        match level.directory.status(&name) {
            Ok(Some(status)) if status.kind == Kind::Directory => {
                let deep = depth >= limits.depth;
                match enter(&level.directory, &name, room(held)).filter(|_| !deep) {
                    Some(level) => {
                        held += level.listing.len();
                        levels.push(level);
                    }
                    None => below.more = true,
                }
            }
            Ok(_) => {}
            Err(_) => below.more = true,
        }
    }
    below
}

/// Opens a directory, unless that fails or it has more than `most` entries.
fn enter(parent: &Directory, name: &Component, most: usize) -> Option<Level> {
    let directory = parent.subdirectory(name).ok()?;
    let listing = Listing::read(&directory, most).ok()??;
    Some(Level { directory, listing, next: 0 })
}
