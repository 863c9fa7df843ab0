//! `kiln store optimise`.

use serde_json::json;

use super::{Entry, Kind, Run};
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::units::mebibytes;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "optimise",
    purpose: "Replace equal files by hard links to one",
    description: "Finds files with the same contents in all paths, and makes them hard links to one file in the directory \
        '.links' of the store. With the setting 'auto-optimise-store' this happens to new paths as they come in.",
    kind: Kind::Run(Run {
        arguments: |command| command.arg(json::argument()),
        takes_settings: false,
        examples: &[("kiln store optimise", "save space in the whole store")],
        exit_codes: &[("1", "also if some path could not be looked at")],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let work = async { Ok(session.store.optimise(session.events.clone()).await?) };
    let optimised = session.wait(or_interrupted(work, std::future::ready(())))?;
    for file in &optimised.suspicious {
        session.events.warn(format!("skipping suspicious writable file '{}'", file.display()));
    }
    optimised.failures.iter().for_each(|failure| session.events.warn(failure.as_str()));
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        json::pretty(&json!({
            "paths": optimised.paths,
            "filesLinked": optimised.files,
            "bytesSaved": optimised.bytes,
            "failures": optimised.failures,
        }))
    } else {
        format!("{} freed by hard-linking {} files\n", mebibytes(optimised.bytes), optimised.files)
    })?;
    Ok(if optimised.failures.is_empty() { 0 } else { GENERAL_EXIT_CODE })
}
