//! `kiln store make-content-addressed`.

use serde_json::{Map, Value, json};

use super::{Entry, Kind, Run, paths, paths_argument};
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "make-content-addressed",
    purpose: "Make copies of paths whose names follow from their contents",
    description: "Adds content-addressed copies of paths and of all that they refer to, in which references lead to the \
        copies. Other stores take such paths without signatures. Prints the copies of the paths, in the order of the \
        arguments.",
    kind: Kind::Run(Run {
        arguments: |command| command.args([paths_argument().required(true), json::argument()]),
        takes_settings: false,
        examples: &[(
            "kiln store make-content-addressed ./result",
            "a result that nobody has to trust you for",
        )],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let wanted = paths(&session, invocation)?;
    let work = async { Ok(session.store.make_content_addressed(wanted.clone()).await?) };
    let copies = session.wait(or_interrupted(work, std::future::ready(())))?;
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        let copied = wanted.iter().filter_map(|old| Some((session.print(old), copies.get(old)?)));
        let rewrites: Map<String, Value> =
            copied.map(|(old, new)| (old, session.print(new).into())).collect();
        json::pretty(&json!({ "rewrites": rewrites }))
    } else {
        wanted.iter().filter_map(|path| Some(session.print(copies.get(path)?) + "\n")).collect()
    })?;
    Ok(0)
}
