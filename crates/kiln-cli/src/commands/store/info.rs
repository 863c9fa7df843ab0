//! `kiln store info`.

use serde_json::{Map, Value};

use super::{Entry, Kind, Run, path_info, paths, paths_argument};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "info",
    purpose: "Show what a store knows about paths",
    description: "Prints hash and size of the archive, references, deriver, when the path was registered, whether it was \
        built here, signatures and content address.",
    kind: Kind::Run(Run {
        arguments: |command| command.args([paths_argument().required(true), json::argument()]),
        takes_settings: false,
        examples: &[
            ("kiln store info ./result", "about what a link leads to"),
            ("kiln store info --json /nix/store/…-hello | jq '.[].narSize'", "one of the values"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let mut infos = Vec::new();
    for path in paths(&session, invocation)? {
        infos.push(session.path_info(&path)?);
    }
    output::print(if invocation.flag("json") {
        let entries =
            infos.iter().map(|info| (session.print(&info.path), path_info::json(info, session.store_dir())));
        json::pretty(&Value::Object(entries.collect::<Map<_, _>>()))
    } else {
        let texts = infos.iter().map(|info| {
            let is_diverted = session.store.config().locations.is_diverted();
            let file = is_diverted.then(|| session.store.real_path(&info.path));
            path_info::readable(info, session.store_dir(), file.as_deref())
        });
        texts.collect::<Vec<String>>().join("\n")
    })?;
    Ok(0)
}
