//! `kiln store verify`.

use kiln_hash::Hash;
use kiln_store::Verdict;
use kiln_store_path::StorePath;

use super::{Entry, Kind, Run, lines, paths, paths_argument};
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::invocation::Invocation;
use crate::output;
use crate::session::Session;

pub(super) const ENTRY: Entry = Entry {
    name: "verify",
    purpose: "Compare the contents of paths with their hashes",
    description: "Reads the contents of paths, or of all valid paths if none is named, and compares them with what the \
        store has on record. The paths that are missing on the disk or were changed are printed, with the reason on \
        standard error.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.arg(paths_argument().help("Paths to verify; without any, all valid paths"))
        },
        takes_settings: false,
        examples: &[
            ("kiln store verify", "the whole store"),
            ("kiln store verify $(kiln store closure ./result)", "a result and all that it needs"),
        ],
        exit_codes: &[("1", "also if something is missing or was changed")],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let mut wanted = paths(&session, invocation)?;
    if wanted.is_empty() {
        wanted = session.wait(session.store.all_paths())?.into_iter().collect();
    }
    let mut bad: Vec<StorePath> = Vec::new();
    for path in wanted {
        if let Some(reason) = complaint(&session, &path)? {
            session.events.warn(reason);
            bad.push(path);
        }
    }
    output::print(lines(&session, &bad))?;
    Ok(if bad.is_empty() { 0 } else { GENERAL_EXIT_CODE })
}

/// What is wrong with a path, if anything.
fn complaint(session: &Session, path: &StorePath) -> Result<Option<String>, Failure> {
    let shown = session.print(path);
    Ok(match session.wait(session.store.verify_contents(path))? {
        Verdict::Good | Verdict::Recorded => None,
        Verdict::Missing => Some(format!("path '{shown}' is missing on the disk")),
        Verdict::NotValid => return Err(Failure::input(format!("path '{shown}' is not valid"))),
        Verdict::Modified { expected, found } => Some(format!(
            "path '{shown}' was modified! expected hash '{}', got '{}'",
            Hash::from(expected).sri(),
            Hash::from(found).sri()
        )),
    })
}
