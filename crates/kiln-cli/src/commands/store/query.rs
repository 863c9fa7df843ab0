//! `kiln store query`.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, ArgGroup, Command};
use kiln_store_path::StorePath;

use super::{Entry, Kind, Run, lines, paths, paths_argument};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output;
use crate::session::Session;

pub(super) const ENTRY: Entry = Entry {
    name: "query",
    purpose: "Ask one question about paths",
    description: "Prints the paths that are the answer, sorted, each once. For what one path has all in one see 'kiln store \
        info'.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: false,
        examples: &[
            ("kiln store query --references ./result", "what it refers to directly"),
            ("kiln store query --outputs /nix/store/…-hello.drv", "what a derivation makes"),
            ("kiln store query --hash-part mz985b11rp8ccbhb4gcc1bpxwpxvbw6d", "the path with that digest"),
            ("kiln store query --all | wc -l", "how many paths there are"),
        ],
        exit_codes: &[],
        run,
    }),
};

const QUESTIONS: [(&str, &str); 5] = [
    ("references", "What the paths refer to"),
    ("referrers", "What refers to the paths"),
    (
        "deriver",
        "The derivation that each path was built from, in the order of the arguments, or 'unknown-deriver'",
    ),
    ("derivers", "All valid derivations that have one of the paths as an output"),
    ("outputs", "The outputs of derivations, as far as their paths are known"),
];

fn arguments(command: Command) -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let names = QUESTIONS.map(|(name, _)| name);
    command
        .args(QUESTIONS.map(|(name, help)| flag(name).requires("path").help(help)))
        .arg(
            Arg::new("hash-part")
                .long("hash-part")
                .value_name("DIGEST")
                .num_args(1..)
                .conflicts_with("path")
                .help("The paths with these digests, the 32 characters before the name"),
        )
        .arg(flag("all").conflicts_with("path").help("All valid paths"))
        .arg(paths_argument())
        .group(ArgGroup::new("question").args(names).args(["hash-part", "all"]).required(true))
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let paths = paths(&session, invocation)?;
    if invocation.flag("deriver") {
        return derivers_in_order(&session, &paths);
    }
    let (store, mut found) = (&session.store, BTreeSet::new());
    for path in &paths {
        let info = session.path_info(path)?;
        if invocation.flag("references") {
            found.extend(info.references.iter().cloned());
        } else if invocation.flag("referrers") {
            found.extend(session.wait(store.referrers(path))?);
        } else if invocation.flag("derivers") {
            found.extend(session.wait(store.valid_derivers(path))?);
        } else if invocation.flag("outputs") {
            let derivation = session.wait(store.read_derivation(path))?;
            found.extend(derivation.known_output_paths().map(|(_, path)| path.clone()));
        }
    }
    for digest in invocation.values::<String>("hash-part") {
        match session.wait(store.path_by_digest(&digest))? {
            Some(path) => drop(found.insert(path)),
            None => return Err(Failure::input(format!("no valid path has the digest '{digest}'"))),
        }
    }
    if invocation.flag("all") {
        found = session.wait(store.all_paths())?;
    }
    output::print(lines(&session, &found))?;
    Ok(0)
}

fn derivers_in_order(session: &Session, paths: &[StorePath]) -> Result<u8, Failure> {
    let mut text = String::new();
    for path in paths {
        let info = session.path_info(path)?;
        let deriver = info.deriver.as_ref().map(|deriver| session.print(deriver));
        text.push_str(deriver.as_deref().unwrap_or("unknown-deriver"));
        text.push('\n');
    }
    output::print(text)?;
    Ok(0)
}
