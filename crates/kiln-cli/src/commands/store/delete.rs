//! `kiln store delete`.

use clap::{Arg, ArgAction};

use super::{Entry, Kind, Run, paths, paths_argument};
use crate::commands::gc::{exit_code, result_json, retention, summary};
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "delete",
    purpose: "Delete paths that nothing needs",
    description: "Deletes these paths if all of them are garbage, or needed by each other alone. If something keeps one of \
        them, nothing is deleted, and what keeps it is told.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                paths_argument().required(true),
                Arg::new("ignore-liveness")
                    .long("ignore-liveness")
                    .action(ArgAction::SetTrue)
                    .help("Delete them even if roots keep them; what other paths refer to is never deleted"),
                json::argument(),
            ])
        },
        takes_settings: true,
        examples: &[("kiln store delete /nix/store/…-hello", "one path, if nothing needs it")],
        exit_codes: &[("1", "also if something keeps one of the paths, or could not be deleted")],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let paths = paths(&session, invocation)?;
    let ignore_liveness = invocation.flag("ignore-liveness");
    let retention = retention(&session.settings);
    let work = async {
        Ok(session.store.delete_paths(paths, ignore_liveness, retention, session.events.clone()).await?)
    };
    let collected = session.wait(or_interrupted(work, std::future::ready(())))?;
    collected.failures.iter().for_each(|failure| session.events.warn(failure.as_str()));
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        json::pretty(&result_json(&session, &collected, &[]))
    } else {
        summary(&collected)
    })?;
    Ok(exit_code(&collected))
}
