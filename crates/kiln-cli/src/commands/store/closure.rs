//! `kiln store closure`.

use clap::{Arg, ArgAction};
use kiln_store::Follow;

use super::{Entry, Kind, Run, lines, paths, paths_argument};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output;
use crate::session::Session;

pub(super) const ENTRY: Entry = Entry {
    name: "closure",
    purpose: "Print all that paths refer to, directly or not",
    description: "Prints the paths themselves with all that they refer to, or with all that refers to them, sorted.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let reverse = Arg::new("reverse").long("reverse").action(ArgAction::SetTrue);
            command.args([
                paths_argument().required(true),
                reverse
                    .help("Print what refers to the paths, directly or not, instead of what they refer to"),
            ])
        },
        takes_settings: false,
        examples: &[
            ("kiln store closure ./result", "what must be copied along with a result"),
            ("kiln store closure --reverse /nix/store/…-openssl", "what uses a library"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let follow = if invocation.flag("reverse") { Follow::REFERRERS } else { Follow::REFERENCES };
    let closure = session.wait(session.store.closure(paths(&session, invocation)?, follow))?;
    output::print(lines(&session, &closure))?;
    Ok(0)
}
