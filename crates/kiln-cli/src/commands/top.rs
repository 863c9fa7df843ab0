//! `kiln top`: what a daemon does, while it does it.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

use super::{Entry, Kind, Run};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Work;
use crate::top::{self, Order, Source};
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "top",
    purpose: "Watch what a daemon does",
    description: "Shows the builds and substitutions of a running 'kiln daemon', how long they have gone on, for whom, the \
        phase that builders say they are in and the last line of their logs; who is connected and what they wait for; and \
        what waits for a slot. The daemon tells it at a Unix socket of its setting 'kiln-metrics-listen', which the daemon's \
        user and group may use. On a terminal it is drawn anew every second; elsewhere it is printed once. Keys: 'q' ends \
        it, the arrows up and down scroll, and left and right change the order.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: true,
        examples: &[
            ("kiln top", "watch the daemon of this machine"),
            ("kiln top --once", "what it does now, as text"),
            (
                "kiln top --json --socket /run/kiln/watch",
                "the same as JSON, from the daemon that listens there",
            ),
        ],
        exit_codes: &[("1", "also if no daemon tells anything")],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    command.args([
        Arg::new("socket")
            .long("socket")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("Ask at this socket instead of that of 'kiln-metrics-listen'"),
        Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print what is so now, and end"),
        Arg::new("sort")
            .long("sort")
            .value_name("ORDER")
            .value_parser(["age", "name", "user"])
            .default_value("age")
            .help("What is listed first: the oldest, or by name or user"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let settings = invocation.settings()?;
    let socket = match invocation.matches.get_one::<PathBuf>("socket") {
        Some(socket) => socket.clone(),
        None => usual_socket(&settings.kiln_metrics_listen)?,
    };
    let order = match invocation.text("sort") {
        Some("name") => Order::Name,
        Some("user") => Order::User,
        _ => Order::Age,
    };
    let source = Source::new(socket);
    let work = Work::begin(invocation, settings)?;
    if invocation.flag("json") {
        let text = work.wait(source.text())?;
        invocation.terminal.finish();
        // It was read as what it should be.
        let value = serde_json::to_value(source.parse(&text)?).unwrap_or_default();
        output::print(json::pretty(&value))?;
        return Ok(0);
    }
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if invocation.flag("once") || !is_terminal {
        let status = work.wait(source.status())?;
        invocation.terminal.finish();
        output::print(top::snapshot(&status, order))?;
        return Ok(0);
    }
    invocation.terminal.finish();
    work.wait(top::watch(source, order, invocation.terminal.colours))?;
    Ok(0)
}

/// The first Unix socket that the daemon's settings name.
fn usual_socket(places: &[String]) -> Result<PathBuf, Failure> {
    let socket = places.iter().find_map(|place| place.strip_prefix("unix:"));
    socket.map(PathBuf::from).ok_or_else(|| {
        Failure::input("the setting 'kiln-metrics-listen' names no Unix socket at which a daemon tells what it does")
            .with_hint("set 'kiln-metrics-listen = unix:/run/kiln/watch' in nix.conf and restart the daemon, or name its socket with '--socket'")
    })
}
