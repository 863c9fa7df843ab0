//! `kiln store info`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::{Arg, ArgAction};
use kiln_cache::Source;
use kiln_narinfo::PathInfo;
use kiln_remote::DaemonAddress;
use kiln_settings::Settings;
use kiln_store_path::{StoreDir, StorePath};
use kiln_substitute::Candidate;
use serde_json::{Map, Value};

use super::path_info::{ClosureSize, Known};
use super::{Entry, Kind, Run, named, paths_argument};
use crate::any_store::{AnyStore, StoreView as _};
use crate::daemon_store::usual_store_dir;
use crate::ends::{End, cache_of, surroundings};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::{Session, Work};
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "info",
    purpose: "Show what a store or binary cache knows about paths",
    description: "Prints hash and size of the archive, references, deriver, when the path was registered, whether it was \
        built here, signatures and content address; of a binary cache, given by '--store', also in which file the archive is.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                paths_argument().required(true),
                Arg::new("closure-size")
                    .long("closure-size")
                    .action(ArgAction::SetTrue)
                    .help("Tell also what each path takes with all that it needs"),
                json::argument(),
            ])
        },
        takes_settings: false,
        examples: &[
            ("kiln store info ./result", "about what a link leads to"),
            ("kiln store info --json /nix/store/…-hello | jq '.[].narSize'", "one of the values"),
            (
                "kiln store info --store https://cache.nixos.org --closure-size /nix/store/…-hello",
                "what would be downloaded",
            ),
        ],
        exit_codes: &[],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let settings = invocation.settings()?;
    let text = match End::parse(cache_of(&settings), &settings, invocation)? {
        End::Store(settings) => of_store(invocation, *settings)?,
        End::Daemon(address) => of_daemon(invocation, settings, *address)?,
        End::Cache(_) => of_cache(invocation, settings)?,
    };
    invocation.terminal.finish();
    output::print(text)?;
    Ok(0)
}

/// What a local store knows.
fn of_store(invocation: &Invocation<'_>, settings: Settings) -> Result<String, Failure> {
    let session = Session::of_settings(invocation, settings)?;
    let paths = named(invocation, session.store_dir())?;
    let infos =
        paths.iter().map(|path| session.path_info(path)).collect::<Result<Vec<Arc<PathInfo>>, _>>()?;
    let mut sizes = BTreeMap::new();
    if invocation.flag("closure-size") {
        let usage = session.wait(session.store.usage(paths))?;
        sizes.extend(usage.into_iter().map(|usage| (usage.path, usage.closure_size)));
    }
    let is_diverted = session.store.config().locations.is_diverted();
    let known = infos.iter().map(|info| Known {
        contents: is_diverted.then(|| session.store.real_path(&info.path)),
        closure: sizes.get(&info.path).map(|nar| ClosureSize { nar: *nar, download: None }),
        ..Known::new(info)
    });
    Ok(written(known.collect(), session.store_dir(), invocation))
}

/// What the store of a daemon knows.
fn of_daemon(
    invocation: &Invocation<'_>,
    settings: Settings,
    address: DaemonAddress,
) -> Result<String, Failure> {
    let work = Work::begin(invocation, settings)?;
    let store = End::daemon(&work, invocation, address);
    let store_dir = store.store_dir().clone();
    let paths = named(invocation, &store_dir)?;
    let daemon = AnyStore::Daemon(store.clone());
    let info = |path| work.wait(daemon.valid_path_info(path));
    let infos = paths.iter().map(info).collect::<Result<Vec<Arc<PathInfo>>, _>>()?;
    let mut closures = BTreeMap::new();
    if invocation.flag("closure-size") {
        let source = Source::of_daemon(store, &surroundings(&work, invocation, store_dir.clone())?);
        closures = work.wait(source.offered(&paths, true))?;
    }
    let known = infos.iter().map(|info| Known {
        closure: closures.get(&info.path).map(|path| closure_size(path, &closures)),
        ..Known::new(info)
    });
    Ok(written(known.collect(), &store_dir, invocation))
}

/// What a binary cache says.
fn of_cache(invocation: &Invocation<'_>, settings: Settings) -> Result<String, Failure> {
    let work = Work::begin(invocation, settings)?;
    let surroundings = surroundings(&work, invocation, usual_store_dir(invocation.environment)?)?;
    let source = Source::open(cache_of(&work.settings).unwrap_or_default(), &surroundings)?;
    let paths = named(invocation, source.store_dir())?;
    let with_closures = invocation.flag("closure-size");
    let offered = work.wait(source.offered(&paths, with_closures))?;
    let known = paths.iter().filter_map(|path| offered.get(path)).map(|candidate| Known {
        file: candidate.offer().file.as_ref(),
        closure: with_closures.then(|| closure_size(candidate, &offered)),
        ..Known::new(candidate.info())
    });
    Ok(written(known.collect(), source.store_dir(), invocation))
}

/// The size of all that a path needs, itself included.
fn closure_size(path: &Candidate, offered: &BTreeMap<StorePath, Candidate>) -> ClosureSize {
    let mut size = ClosureSize { nar: 0, download: path.offer().file.as_ref().map(|_| 0) };
    let mut seen = BTreeSet::from([&path.info().path]);
    let mut open = vec![path];
    while let Some(next) = open.pop() {
        size.nar = size.nar.saturating_add(next.info().nar_size);
        size.download = size.download.map(|size| size.saturating_add(next.offer().download_size()));
        let references = next.info().references.iter().filter(|reference| seen.insert(reference));
        open.extend(references.filter_map(|reference| offered.get(reference)));
    }
    size
}

fn written(known: Vec<Known<'_>>, store_dir: &StoreDir, invocation: &Invocation<'_>) -> String {
    if invocation.flag("json") {
        let entries = known.iter().map(|known| (store_dir.print(&known.info.path), known.json(store_dir)));
        json::pretty(&Value::Object(entries.collect::<Map<_, _>>()))
    } else {
        known.iter().map(|known| known.readable(store_dir)).collect::<Vec<String>>().join("\n")
    }
}
