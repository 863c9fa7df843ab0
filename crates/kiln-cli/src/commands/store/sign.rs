//! `kiln store sign`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, value_parser};
use kiln_cache::read_secret_key;
use kiln_narinfo::{PathInfo, SignatureSet};
use kiln_store::Follow;

use super::{Entry, Kind, Run, paths, paths_argument};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output;
use crate::session::Session;

pub(super) const ENTRY: Entry = Entry {
    name: "sign",
    purpose: "Sign paths",
    description: "Adds signatures to valid paths, by which other stores that trust the key believe what the store knows \
        about them. Prints how many signatures are new.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                paths_argument().required(true),
                Arg::new("key-file")
                    .short('k')
                    .long("key-file")
                    .value_name("FILE")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("File with the secret key"),
                Arg::new("recursive")
                    .short('r')
                    .long("recursive")
                    .action(ArgAction::SetTrue)
                    .help("Also sign all that they refer to"),
            ])
        },
        takes_settings: false,
        examples: &[(
            "kiln store sign --key-file key.sec --recursive ./result",
            "a result with all that it needs",
        )],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let files: Vec<PathBuf> = invocation.values("key-file");
    let key = read_secret_key(&files.into_iter().next().unwrap_or_default())?;
    let mut wanted = paths(&session, invocation)?;
    if invocation.flag("recursive") {
        wanted = session.wait(session.store.closure(wanted, Follow::REFERENCES))?.into_iter().collect();
    }
    let mut added = 0;
    for path in wanted {
        let known = session.path_info(&path)?;
        let mut info = PathInfo { signatures: SignatureSet::new(), ..(*known).clone() };
        info.sign(session.store_dir(), &key)?;
        if info.signatures.iter().all(|signature| known.signatures.contains(signature)) {
            continue;
        }
        session.wait(session.store.add_signatures(&path, info.signatures))?;
        added += 1;
    }
    output::print(format!("{added} signatures added\n"))?;
    Ok(0)
}
