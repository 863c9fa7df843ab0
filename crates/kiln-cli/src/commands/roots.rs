//! `kiln roots`: what is kept, and why.

use std::path::PathBuf;

use clap::{Arg, value_parser};
use kiln_store::{Holder, Root};
use kiln_store_path::StorePath;
use serde_json::{Value, json};

use super::gc::{bytes, retention};
use super::{Entry, Kind, Run};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, output, targets};

pub(super) const ENTRY: Entry = Entry {
    name: "roots",
    purpose: "List what keeps paths from being collected as garbage",
    description: "Prints all roots, each with the path that it keeps: links, running processes, and processes that work with \
        the store ('{temp:PID}'). With PATH, prints only those that keep the path, each with a way from the root to the path. \
        Nothing is printed for a path that is garbage. Processes of other users can be looked at by root alone.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                Arg::new("path")
                    .value_name("PATH")
                    .num_args(0..)
                    .value_parser(value_parser!(PathBuf))
                    .help("Say why this path is kept: a store path, a path within one, or a link to one"),
                json::argument(),
            ])
        },
        takes_settings: true,
        examples: &[
            ("kiln roots", "all roots"),
            ("kiln roots /nix/store/…-openssl", "why a path is not collected"),
            ("kiln roots --json", "what kind of root each is, too"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let named = invocation.values::<PathBuf>("path");
    if named.is_empty() {
        return list(invocation);
    }
    let session = Session::open(invocation)?;
    let paths: Vec<StorePath> =
        named.iter().map(|path| targets::store_path(path, session.store_dir())).collect::<Result<_, _>>()?;
    for path in &paths {
        session.path_info(path)?;
    }
    let all =
        session.wait(session.store.why_alive(paths, retention(&session.settings), session.events.clone()))?;
    let reasons: Vec<_> = all.into_iter().flatten().collect();
    let way = |way: &[StorePath]| way.iter().map(|path| session.print(path)).collect::<Vec<String>>();
    let text = if invocation.flag("json") {
        let values = reasons.iter().map(|reason| holder_json(&reason.holder, "way", json!(way(&reason.way))));
        json::pretty(&values.collect())
    } else {
        reasons
            .iter()
            .map(|reason| format!("{} -> {}\n", reason.holder, way(&reason.way).join(" -> ")))
            .collect()
    };
    output::print(text)?;
    Ok(0)
}

/// Prints all roots.
pub(super) fn list(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let roots = session.wait(session.store.roots(&session.events))?;
    let text = if invocation.flag("json") {
        let values =
            roots.iter().map(|root| holder_json(&root.holder, "path", json!(session.print(&root.path))));
        json::pretty(&values.collect())
    } else {
        let line = |root: &Root| format!("{} -> {}\n", root.holder, session.print(&root.path));
        roots.iter().map(line).collect()
    };
    invocation.terminal.finish();
    output::print(text)?;
    Ok(0)
}

/// What holds a root, and something held under a key.
fn holder_json(holder: &Holder, key: &str, held: Value) -> Value {
    match holder {
        Holder::Direct(link) => json!({ "kind": "link", "link": bytes(link.as_os_str()), key: held }),
        Holder::Indirect { link, registered } => json!({
            "kind": "indirect-link",
            "link": bytes(link.as_os_str()),
            "registered": bytes(registered.as_os_str()),
            key: held,
        }),
        Holder::Running(file) => json!({ "kind": "running", "file": bytes(file.as_os_str()), key: held }),
        Holder::Temporary(process) => json!({ "kind": "temporary", "process": process, key: held }),
    }
}
