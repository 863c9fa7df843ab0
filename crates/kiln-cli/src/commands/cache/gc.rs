//! `kiln cache gc`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Arg, ArgAction, Command, value_parser};
use kiln_cache::{CacheGarbage, CollectOptions, collect};
use serde_json::{Value, json};

use super::{Entry, Kind, Run};
use crate::commands::gc::bytes;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::units::{mebibytes, parse_age};
use crate::{json, output};

/// Files that nothing names are spared for so long: Nix, which knows no lock, may be about to name them.
const GRACE: &str = "1h";

pub(super) const ENTRY: Entry = Entry {
    name: "gc",
    purpose: "Delete what a binary cache in a directory does not need",
    description: "Deletes files with archives that no narinfo names. With '--older-than', deletes first the paths that \
        were added so long ago and that no younger path needs. With '--broken', also those whose narinfo does not read, or \
        whose file or one of whose references is missing, and all that refer to them. At no moment there is a narinfo whose \
        references or file were deleted. Waits until nobody copies into the cache by 'kiln copy'.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: false,
        examples: &[
            ("kiln cache gc /srv/cache", "what broken-off copies have left"),
            ("kiln cache gc --older-than 90d --dry-run /srv/cache", "what three months would leave"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    command.args([
        Arg::new("dir")
            .value_name("DIR")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("The directory of the cache"),
        Arg::new("older-than")
            .long("older-than")
            .value_name("AGE")
            .value_parser(parse_age)
            .help("Delete paths that were added so long ago, unless a younger one needs them: 30d, 2w, 12h"),
        flag("broken").help("Delete paths that are not whole, and all that refer to them"),
        Arg::new("grace")
            .long("grace")
            .value_name("AGE")
            .default_value(GRACE)
            .value_parser(parse_age)
            .help("Spare files that no narinfo names if they are younger"),
        flag("dry-run").help("Print what would be deleted, and delete nothing"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let age = |name| invocation.matches.get_one::<Duration>(name).copied();
    let root: Vec<PathBuf> = invocation.values("dir");
    let root = root.into_iter().next().unwrap_or_default();
    let options = CollectOptions {
        older_than: age("older-than"),
        broken: invocation.flag("broken"),
        grace: age("grace").unwrap_or_default(),
        dry_run: invocation.flag("dry-run"),
    };
    let garbage = collect(&root, &options, SystemTime::now())?;
    for fault in &garbage.faults {
        invocation.terminal.events.warn(fault.as_str());
    }
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        json::pretty(&result_json(&garbage)).into_bytes()
    } else if options.dry_run {
        lines(&garbage)
    } else {
        summary(&garbage).into_bytes()
    })?;
    Ok(0)
}

fn summary(garbage: &CacheGarbage) -> String {
    format!(
        "{} files deleted, {} freed; {} paths deleted, {} left\n",
        garbage.files.len(),
        mebibytes(garbage.freed),
        garbage.paths.len(),
        garbage.kept
    )
}

fn lines(garbage: &CacheGarbage) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    garbage.files.iter().flat_map(|file| [file.as_os_str().as_bytes(), b"\n"].concat()).collect()
}

fn result_json(garbage: &CacheGarbage) -> Value {
    json!({
        "paths": garbage.paths.iter().map(|path| path.base_name()).collect::<Vec<_>>(),
        "files": garbage.files.iter().map(|file| bytes(file.as_os_str())).collect::<Vec<_>>(),
        "bytesFreed": garbage.freed,
        "kept": garbage.kept,
        "faults": garbage.faults,
    })
}
