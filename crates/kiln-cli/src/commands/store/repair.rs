//! `kiln store repair`.

use kiln_events::{ErrorClass, ErrorReport};

use super::{Entry, Kind, Run, paths, paths_argument};
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;

pub(super) const ENTRY: Entry = Entry {
    name: "repair",
    purpose: "Make the contents of paths good again",
    description: "Reads the contents of valid paths. What is missing on the disk or was changed is had from a \
        substituter, or built again by the derivation that made it, if that is still in the store, and put in its place.",
    kind: Kind::Run(Run {
        arguments: |command| command.arg(paths_argument().required(true)),
        takes_settings: true,
        examples: &[
            ("kiln store repair ./result", "one path"),
            ("kiln store repair $(kiln store verify --check-contents)", "all that is bad"),
        ],
        exit_codes: &[("1", "also if something cannot be repaired")],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let paths = paths(&session, invocation)?;
    let engine = session.engine(invocation)?;
    let work = async {
        let mut bad = Vec::new();
        for path in &paths {
            let result = engine.repair_path(path).await;
            if !result.is_success() {
                bad.push(result.error_message);
            }
        }
        engine.idle().await;
        Ok(bad)
    };
    let bad = session.wait(or_interrupted(work, engine.idle()))?;
    for message in &bad {
        session.events.error(ErrorReport::new(ErrorClass::BuildFailure, message.clone()));
    }
    invocation.terminal.finish();
    Ok(if bad.is_empty() { 0 } else { GENERAL_EXIT_CODE })
}
