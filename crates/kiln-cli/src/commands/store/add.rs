//! `kiln store add`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Arg, value_parser};
use kiln_hash::Algorithm;
use kiln_store::NewObject;
use kiln_store_path::{ContentAddressMethod, StorePathName};

use super::{Entry, Kind, Run, lines};
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{output, place};

pub(super) const ENTRY: Entry = Entry {
    name: "add",
    purpose: "Add files and directories to a store",
    description: "Copies files and directories into the store and prints their store paths, in the order of the arguments. \
        They refer to nothing. Nothing keeps them from being collected as garbage later.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                Arg::new("path")
                    .value_name("PATH")
                    .num_args(1..)
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("Files and directories; a symbolic link is added as the link that it is"),
                Arg::new("name")
                    .long("name")
                    .value_name("NAME")
                    .help("Name in the store; otherwise that of the file"),
                Arg::new("mode")
                    .long("mode")
                    .value_name("MODE")
                    .value_parser(["nar", "flat", "text"])
                    .default_value("nar")
                    .help("How the path follows from the content")
                    .long_help(
                        "How the path follows from the content: 'nar' hashes the archive, as for the sources of \
                         derivations; 'flat' the contents of a file, as for what fixed-output derivations download; \
                         'text' is a file as 'builtins.toFile' makes it.",
                    ),
            ])
        },
        takes_settings: false,
        examples: &[
            ("kiln store add ./src", "a source tree"),
            (
                "kiln store add --mode flat hello-2.12.tar.gz",
                "where a derivation that fetches it would put it",
            ),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let method = match invocation.text("mode") {
        Some("flat") => ContentAddressMethod::Flat,
        Some("text") => ContentAddressMethod::Text,
        _ => ContentAddressMethod::Nar,
    };
    for path in invocation.values::<PathBuf>("path") {
        let source = place::named(&path)?;
        let name = match (invocation.text("name"), source.file_name()) {
            (Some(name), _) => StorePathName::new(name)?,
            (None, file_name) => StorePathName::new(file_name.unwrap_or_default().as_encoded_bytes())
                .doing(|| format!("'{}' needs another name in the store ('--name')", path.display()))?,
        };
        let object = NewObject { name, method, algorithm: Algorithm::Sha256, references: BTreeSet::new() };
        let added = session
            .wait(session.store.add_tree(object, &source, None))
            .doing(|| format!("adding '{}' to the store", path.display()))?;
        output::print(lines(&session, [&added.path]))?;
    }
    Ok(0)
}
