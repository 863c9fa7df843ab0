//! `kiln gc`: collecting garbage.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};
use kiln_diff::ByteString;
use kiln_events::Verbosity;
use kiln_sandbox::BuildDirectories;
use kiln_settings::Settings;
use kiln_store::{CollectOptions, Collected, Garbage, OldGenerations, Retention};
use serde_json::{Value, json};

use super::{Entry, Kind, Run, roots};
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::units::{mebibytes, parse_age, parse_size};
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "gc",
    purpose: "Delete what nothing needs",
    description: "Deletes all paths that no root needs ('kiln roots' lists the roots), and what processes that were killed have \
        left in the store. Builds may go on meanwhile: what they use and make is kept. The settings 'keep-outputs' and \
        'keep-derivations' say what else is kept.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: true,
        examples: &[
            ("kiln gc", "delete all garbage"),
            ("kiln gc --dry-run", "print what would be deleted"),
            ("kiln gc --max-freed 10G", "stop when about 10 GiB have been freed"),
            ("kiln gc --delete-older-than 30d", "forget what profiles were a month ago and earlier, too"),
        ],
        exit_codes: &[("1", "also if something could not be deleted")],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    command.args([
        Arg::new("dry-run")
            .long("dry-run")
            .action(ArgAction::SetTrue)
            .help("Print what would be deleted, and delete nothing"),
        Arg::new("print-roots")
            .long("print-roots")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["dry-run", "max-freed", "delete-old", "delete-older-than"])
            .help("Print the roots, as 'kiln roots' does, and delete nothing"),
        Arg::new("max-freed")
            .long("max-freed")
            .value_name("SIZE")
            .value_parser(parse_size)
            .help("Stop when about so many bytes have been freed; K, M, G and T stand for KiB and so on"),
        Arg::new("delete-older-than")
            .long("delete-older-than")
            .value_name("AGE")
            .value_parser(parse_age)
            .help("First delete the generations of all profiles that were not in use any more so long ago: 30d, 2w, 12h"),
        Arg::new("delete-old")
            .short('d')
            .long("delete-old")
            .action(ArgAction::SetTrue)
            .conflicts_with("delete-older-than")
            .help("First delete all generations of all profiles but those in use"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    if invocation.flag("print-roots") {
        return roots::list(invocation);
    }
    let session = Session::open(invocation)?;
    let dry_run = invocation.flag("dry-run");
    let generations = old_generations(&session, invocation, dry_run)?;
    let retention = retention(&session.settings);
    if dry_run {
        let work = async { Ok(session.store.find_garbage(retention, session.events.clone()).await?) };
        let garbage = session.wait(or_interrupted(work, std::future::ready(())))?;
        return tell_garbage(&session, invocation, &garbage, &generations).map(|()| 0);
    }
    let max_freed = invocation.matches.get_one::<u64>("max-freed").copied();
    let options = CollectOptions { retention, max_freed };
    let work = async { Ok(session.store.collect_garbage(options, session.events.clone()).await?) };
    let collected = session.wait(or_interrupted(work, std::future::ready(())))?;
    remove_build_directories(&session);
    tell(&session, invocation, &collected, &generations)
}

/// What the settings say about liveness.
pub(crate) fn retention(settings: &Settings) -> Retention {
    Retention { outputs: settings.keep_outputs, derivations: settings.keep_derivations }
}

fn old_generations(
    session: &Session,
    invocation: &Invocation<'_>,
    dry_run: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let old = match invocation.matches.get_one::<Duration>("delete-older-than") {
        Some(age) => OldGenerations::OlderThan(*age),
        None if invocation.flag("delete-old") => OldGenerations::All,
        None => return Ok(Vec::new()),
    };
    let generations = session.wait(session.store.delete_generations(old, dry_run))?;
    for link in &generations {
        let doing = if dry_run { "would remove" } else { "removed" };
        session.events.message(Verbosity::Notice, format!("{doing} old generation '{}'", link.display()));
    }
    Ok(generations)
}

/// Removes what builds of an engine that was killed have left outside of the store.
fn remove_build_directories(session: &Session) {
    let directory = match &session.settings.build_dir {
        Some(directory) => PathBuf::from(directory),
        None => session.store.config().locations.build_dir.clone(),
    };
    if let Err(error) = BuildDirectories::new(directory).remove_leftovers() {
        session.events.warn(format!("cannot remove what builds that were killed have left: {error}"));
    }
}

fn tell(
    session: &Session,
    invocation: &Invocation<'_>,
    collected: &Collected,
    generations: &[PathBuf],
) -> Result<u8, Failure> {
    for failure in &collected.failures {
        session.events.warn(failure.as_str());
    }
    invocation.terminal.finish();
    let text = if invocation.flag("json") {
        json::pretty(&result_json(session, collected, generations))
    } else {
        summary(collected)
    };
    output::print(text)?;
    Ok(exit_code(collected))
}

/// The exit code of a deletion.
pub(crate) fn exit_code(collected: &Collected) -> u8 {
    if collected.failures.is_empty() { 0 } else { GENERAL_EXIT_CODE }
}

/// What a deletion has come to, in one line.
pub(super) fn summary(collected: &Collected) -> String {
    format!("{} store paths deleted, {} freed\n", collected.paths.len(), mebibytes(collected.freed))
}

/// What a deletion has come to, for programs.
pub(super) fn result_json(session: &Session, collected: &Collected, generations: &[PathBuf]) -> Value {
    let paths: Vec<String> = collected.paths.iter().map(|path| session.print(path)).collect();
    json!({
        "paths": paths,
        "leftovers": names(&collected.leftovers),
        "generations": generations.iter().map(|path| bytes(path.as_os_str())).collect::<Vec<_>>(),
        "bytesFreed": collected.freed,
        "linksRemoved": collected.links.removed,
        "bytesSavedByLinks": collected.links.saved,
        "failures": collected.failures,
    })
}

fn tell_garbage(
    session: &Session,
    invocation: &Invocation<'_>,
    garbage: &Garbage,
    generations: &[PathBuf],
) -> Result<(), Failure> {
    let dead: Vec<String> = garbage.dead.iter().map(|path| session.print(path)).collect();
    if invocation.flag("json") {
        let value = json!({
            "paths": dead,
            "leftovers": names(&garbage.leftovers),
            "generations": generations.iter().map(|path| bytes(path.as_os_str())).collect::<Vec<_>>(),
            "alive": garbage.alive.len(),
            "narSize": garbage.nar_size,
        });
        invocation.terminal.finish();
        return output::print(json::pretty(&value));
    }
    let message = format!(
        "{} store paths would be deleted, which take {} as archives; {} are alive",
        dead.len(),
        mebibytes(garbage.nar_size),
        garbage.alive.len()
    );
    session.events.message(Verbosity::Notice, message);
    invocation.terminal.finish();
    let mut text: Vec<u8> = dead.into_iter().flat_map(|path| (path + "\n").into_bytes()).collect();
    for name in &garbage.leftovers {
        let path = session.store.directory().path().join(name);
        text.extend_from_slice(path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    output::print(text)
}

fn names(names: &[std::ffi::OsString]) -> Vec<Value> {
    names.iter().map(|name| bytes(name)).collect()
}

/// A name or path, whatever bytes it has.
pub(super) fn bytes(name: &std::ffi::OsStr) -> Value {
    serde_json::to_value(ByteString::from(name.as_bytes())).unwrap_or_default()
}
