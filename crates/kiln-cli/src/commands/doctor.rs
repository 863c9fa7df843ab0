//! `kiln doctor`: whether a machine is fit to build.

use serde_json::json;

use super::{Entry, Kind, Run};
use crate::doctor::{self, Level};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "doctor",
    purpose: "Look whether this machine is fit to build",
    description: "Looks over settings, store, database, build users, sandbox, disk space, daemon, binary caches, clock and the \
        machines that builds are sent to, and says of each what it means and what can be done about it. It changes \
        nothing: what it has to try out, such as a build in a sandbox, it does in a temporary directory. It takes some \
        seconds, and says what an ordinary user cannot see as such.",
    kind: Kind::Run(Run {
        arguments: |command| command.arg(json::argument()),
        takes_settings: true,
        examples: &[
            ("kiln doctor", "what is well, and what is not"),
            ("sudo kiln doctor", "the same with what only root can see"),
            ("kiln doctor --json | jq '.findings[] | select(.level == \"problem\")'", "problems alone"),
        ],
        exit_codes: &[("0", "there may be warnings, but no problem"), ("1", "there is a problem")],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let findings = doctor::examine(invocation)?;
    invocation.terminal.finish();
    if invocation.flag("json") {
        let list: Vec<_> = findings.iter().map(doctor::Finding::json).collect();
        output::print(json::pretty(&json!({ "findings": list })))?;
    } else {
        output::print(doctor::readable(&findings))?;
    }
    Ok(u8::from(findings.iter().any(|finding| finding.level == Level::Problem)))
}
