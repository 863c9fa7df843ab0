//! `kiln store diff`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};
use kiln_diff::{Limits, Report, compare_trees};
use kiln_store::blocking;

use super::{Entry, Kind, Run};
use crate::failure::{Failure, GENERAL_EXIT_CODE, While};
use crate::invocation::Invocation;
use crate::{json, output, place};

pub(super) const ENTRY: Entry = Entry {
    name: "diff",
    purpose: "Show where two files or directories differ",
    description: "Compares two store paths, two paths within them, or any two files or directories, by what an archive \
        tells of them: names, types, contents, executable bits and targets of links. Of contents that differ it is said \
        from where on, and what is recognised there: a time in the header of an archive, a build id, lines in another \
        order.\n\n\
        Store paths need not be valid. A link is compared as the link that it is, unless it ends in '/' or leads into the \
        store from outside. What cannot be compared, such as a file that may not be read, counts as a difference.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: false,
        examples: &[
            ("kiln store diff ./result ./result-1", "the outputs of two derivations"),
            (
                "kiln store diff /nix/store/…-hello /nix/store/…-hello.check",
                "an output, and what a check gave",
            ),
            ("kiln store diff ./src ./src.orig --json | jq -r '.differences[].path'", "where they differ"),
        ],
        exit_codes: &[("1", "also if there are differences"), ("2", "the paths could not be compared")],
        run,
    }),
};

/// Exit code of a comparison that did not come about.
const NOT_COMPARED: u8 = 2;

fn arguments(command: Command) -> Command {
    let path = |name: &'static str, help: &'static str| {
        Arg::new(name).value_name(name).required(true).value_parser(value_parser!(PathBuf)).help(help)
    };
    command.args([
        path("A", "A store path, a link to one, or any file or directory"),
        path("B", "What to compare it with"),
        Arg::new("most")
            .long("most")
            .value_name("N")
            .action(ArgAction::Set)
            .value_parser(value_parser!(usize))
            .help("List N differences and count the others (default 1000)"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let report = report(invocation).map_err(|failure| failure.with_exit_code(NOT_COMPARED))?;
    output::print(if invocation.flag("json") {
        json::pretty(&serde_json::to_value(&report)?)
    } else {
        report.to_string()
    })?;
    Ok(if report.totals.differences == 0 { 0 } else { GENERAL_EXIT_CODE })
}

fn report(invocation: &Invocation<'_>) -> Result<Report, Failure> {
    let mut limits = Limits::default();
    if let Some(&most) = invocation.matches.get_one::<usize>("most") {
        limits.differences = most;
    }
    let [a, b] =
        ["A", "B"].map(|name| invocation.matches.get_one::<PathBuf>(name).cloned().unwrap_or_default());
    let locations = match invocation.store_config() {
        Ok((_, config)) => Some(config.locations),
        // Files need no store, not even one that Kiln could open.
        Err(_) if a.symlink_metadata().is_ok() && b.symlink_metadata().is_ok() => None,
        Err(failure) => return Err(failure),
    };
    let open = |path: PathBuf| match &locations {
        Some(locations) => place::of(&place::in_store(&path, locations).unwrap_or(path)),
        None => place::of(&path),
    };
    let (a, b) = (open(a)?, open(b)?);
    let runtime = tokio::runtime::Builder::new_current_thread().build().doing(|| "starting the runtime")?;
    let compared = blocking(move || compare_trees((&a.0, &a.1), (&b.0, &b.1), &limits));
    Ok(runtime.block_on(compared)?)
}
