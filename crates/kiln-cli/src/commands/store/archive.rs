//! `kiln store dump` and `kiln store restore`.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Arg, value_parser};
use kiln_fs::{CaseHack, RestoreOptions};
use kiln_store_path::StorePath;

use super::{Entry, Kind, Run};
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{output, place, targets};

pub(super) const DUMP: Entry = Entry {
    name: "dump",
    purpose: "Write the archive of a path to standard output",
    description: "Writes the NAR archive of a store path, or of any other file or directory. Store paths must be valid.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.arg(path_argument("A store path, a link to one, or any file or directory"))
        },
        takes_settings: false,
        examples: &[
            ("kiln store dump ./result > result.nar", "a result as an archive"),
            ("kiln store dump ./src | kiln hash file -", "what 'kiln hash path ./src' prints"),
        ],
        exit_codes: &[],
        run: dump,
    }),
};

pub(super) const RESTORE: Entry = Entry {
    name: "restore",
    purpose: "Unpack an archive from standard input",
    description: "Makes the files and directories of a NAR archive at a place where there is nothing yet. Nothing is left of \
        an archive that turns out to be damaged.",
    kind: Kind::Run(Run {
        arguments: |command| command.arg(path_argument("Where to unpack it")),
        takes_settings: false,
        examples: &[("kiln store restore copy < result.nar", "the result again, outside of the store")],
        exit_codes: &[],
        run: restore,
    }),
};

fn path_argument(help: &'static str) -> Arg {
    Arg::new("path").value_name("PATH").required(true).value_parser(value_parser!(PathBuf)).help(help)
}

fn dump(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    if io::stdout().is_terminal() {
        return Err(
            Failure::input("an archive is nothing for a terminal").with_hint("send it to a file with '>'")
        );
    }
    for path in invocation.values::<PathBuf>("path") {
        match store_path(invocation, &path)? {
            Some(path) => {
                let session = Session::open(invocation)?;
                output::copy(&session, session.wait(session.store.read_nar(&path))?)?;
            }
            None => dump_files(&path)?,
        }
    }
    Ok(0)
}

/// Writes the archive of a file or directory, whatever it is, to standard output.
pub(crate) fn dump_files(path: &Path) -> Result<(), Failure> {
    let (directory, name) = place::of(path)?;
    let mut stdout = BufWriter::new(io::stdout().lock());
    kiln_fs::dump(&directory, &name, &mut stdout)?;
    output::written(stdout.flush())
}

/// The store path that is meant, if it is one. Files need no store, not even one that Kiln could open.
fn store_path(invocation: &Invocation<'_>, path: &Path) -> Result<Option<StorePath>, Failure> {
    match invocation.store_config() {
        Ok((_, config)) => targets::whole_store_path(path, &config.locations.store_dir),
        Err(_) if path.symlink_metadata().is_ok() => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn restore(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    invocation.values::<PathBuf>("path").iter().try_for_each(|path| restore_files(path))?;
    Ok(0)
}

/// Unpacks the archive on standard input at a place where there is nothing yet.
pub(crate) fn restore_files(path: &Path) -> Result<(), Failure> {
    let (directory, name) = place::for_new(path)?;
    let options = RestoreOptions { case_hack: CaseHack::Ordinary, ..RestoreOptions::default() };
    kiln_fs::restore(&directory, &name, &mut io::stdin().lock(), options, &mut ())
        .inspect_err(|_| drop(kiln_fs::delete_tree(&directory, &name)))
        .doing(|| format!("unpacking to '{}'", path.display()))?;
    Ok(())
}
