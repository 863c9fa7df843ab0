//! `kiln cache`: looking after binary caches and their keys.

mod gc;
mod key;
mod status;

pub(crate) use key::random_seed;

use super::{Entry, Kind, Run};

pub(super) const ENTRY: Entry = Entry {
    name: "cache",
    purpose: "Look after binary caches and the keys that sign them",
    description: "Paths get into a cache by 'kiln copy', which also makes it.",
    kind: Kind::Group(&[gc::ENTRY, key::ENTRY, status::ENTRY]),
};
