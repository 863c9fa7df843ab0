//! `kiln store`: what is in a store.

mod add;
pub(crate) mod archive;
mod closure;
mod delete;
mod diff;
mod info;
mod make_content_addressed;
mod optimise;
mod path_info;
mod ping;
mod query;
mod repair;
mod sign;
mod trust;
mod verify;

use std::path::PathBuf;

use clap::{Arg, value_parser};
use kiln_store_path::{StoreDir, StorePath};

use super::{Entry, Kind, Run};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::targets;

pub(super) const ENTRY: Entry = Entry {
    name: "store",
    purpose: "Look into a store, add to it, check it, and delete from it",
    description: "Paths may be given as store paths, as paths within them, or as links to them, such as './result'.",
    kind: Kind::Group(&[
        add::ENTRY,
        info::ENTRY,
        query::ENTRY,
        closure::ENTRY,
        diff::ENTRY,
        archive::DUMP,
        archive::RESTORE,
        verify::ENTRY,
        repair::ENTRY,
        sign::ENTRY,
        make_content_addressed::ENTRY,
        ping::ENTRY,
        optimise::ENTRY,
        delete::ENTRY,
    ]),
};

/// The argument that is any number of store paths.
fn paths_argument() -> Arg {
    Arg::new("path")
        .value_name("PATH")
        .num_args(1..)
        .value_parser(value_parser!(PathBuf))
        .help("Store paths, paths within them, or links to them")
}

/// The store paths that the argument names.
fn paths(session: &Session, invocation: &Invocation<'_>) -> Result<Vec<StorePath>, Failure> {
    named(invocation, session.store_dir())
}

/// The same, of any store.
fn named(invocation: &Invocation<'_>, store_dir: &StoreDir) -> Result<Vec<StorePath>, Failure> {
    invocation.values::<PathBuf>("path").iter().map(|path| targets::store_path(path, store_dir)).collect()
}

/// Full paths, one per line.
fn lines<'a>(session: &Session, paths: impl IntoIterator<Item = &'a StorePath>) -> String {
    paths.into_iter().map(|path| session.print(path) + "\n").collect()
}
