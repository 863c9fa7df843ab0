//! `kiln du`: what paths take.

use std::path::PathBuf;

use clap::{Arg, value_parser};
use kiln_store::Usage;
use kiln_store_path::StorePath;
use serde_json::{Value, json};

use super::{Entry, Kind, Run};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::units::mebibytes;
use crate::{json, output, targets};

pub(super) const ENTRY: Entry = Entry {
    name: "du",
    purpose: "Show how much space paths take",
    description: "Prints, for each path or for each root if none is named, how much its closure takes, and how much of that is \
        its own: what nothing else in the store refers to, so that it would be freed with the path. Largest first. Sizes \
        are those of archives; on the disk, files that share their contents take less.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                Arg::new("path")
                    .value_name("PATH")
                    .num_args(0..)
                    .value_parser(value_parser!(PathBuf))
                    .help("Store paths, paths within them, or links to them; without any, all roots"),
                json::argument(),
            ])
        },
        takes_settings: false,
        examples: &[
            ("kiln du", "which roots take most"),
            ("kiln du ./result", "what a result takes, and what of it nothing else needs"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let named = invocation.values::<PathBuf>("path");
    let mut paths: Vec<StorePath> =
        named.iter().map(|path| targets::store_path(path, session.store_dir())).collect::<Result<_, _>>()?;
    if paths.is_empty() {
        let roots = session.wait(session.store.roots(&session.events))?;
        let roots = roots.into_iter().map(|root| root.path).collect();
        paths = session.wait(session.store.valid_among(roots))?.into_iter().collect();
    }
    paths.sort();
    paths.dedup();
    let mut usage = session.wait(session.store.usage(paths))?;
    usage.sort_by_key(|usage| std::cmp::Reverse((usage.exclusive_size, usage.closure_size)));
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        json::pretty(&usage.iter().map(|usage| to_json(&session, usage)).collect())
    } else {
        table(&session, &usage)
    })?;
    Ok(0)
}

fn to_json(session: &Session, usage: &Usage) -> Value {
    json!({
        "path": session.print(&usage.path),
        "narSize": usage.nar_size,
        "closureSize": usage.closure_size,
        "exclusiveSize": usage.exclusive_size,
    })
}

fn table(session: &Session, usage: &[Usage]) -> String {
    let mut text = format!("{:>15} {:>15}  path\n", "closure", "exclusive");
    for usage in usage {
        let sizes = [usage.closure_size, usage.exclusive_size].map(mebibytes);
        text += &format!("{:>15} {:>15}  {}\n", sizes[0], sizes[1], session.print(&usage.path));
    }
    text
}
