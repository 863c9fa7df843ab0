//! `kiln log`: what a builder printed.

use std::io::{self, IsTerminal as _};

use kiln_events::{Colours, LogLines, safe_line};
use kiln_store::ByteStream;

use super::{Entry, Kind, Run};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{output, targets};

pub(super) const ENTRY: Entry = Entry {
    name: "log",
    purpose: "Print the log of a build",
    description: "Prints what the builder of a derivation, or of a store path, printed when it last ran here. On a terminal, \
        what could control the terminal is left out; elsewhere the bytes are those of the builder.",
    kind: Kind::Run(Run {
        arguments: |command| command.arg(targets::argument().required(true)),
        takes_settings: false,
        examples: &[
            ("kiln log :hello", "the log of a derivation of ./kiln.toml"),
            ("kiln log ./result | less", "the log of what made a result, page by page"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    for derivation in targets::derivations(&session, &invocation.values::<String>("target"))? {
        let Some(log) = session.wait(session.store.read_log(&derivation))? else {
            return Err(Failure::input(format!("there is no log of '{}'", session.print(&derivation)))
                .with_hint("a log is kept of what was built here, unless 'keep-build-log' is off"));
        };
        if io::stdout().is_terminal() {
            let is_plain = invocation.environment.text("NO_COLOR").is_some();
            show(&session, log, if is_plain { Colours::Strip } else { Colours::Keep })?;
        } else {
            output::copy(&session, log)?;
        }
    }
    Ok(0)
}

/// Prints a log on a terminal, which must not be controlled by it.
fn show(session: &Session, log: ByteStream, colours: Colours) -> Result<(), Failure> {
    let mut lines = LogLines::new();
    let shown = |line: &[u8]| safe_line(line, colours) + "\n";
    output::pieces(session, log, |piece| {
        let mut text = String::new();
        lines.push(piece, |line| text.push_str(&shown(line)));
        output::print(text)
    })?;
    let mut rest = String::new();
    lines.finish(|line| rest.push_str(&shown(line)));
    output::print(rest)
}
