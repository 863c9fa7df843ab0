//! `kiln copy`: paths from one store or cache to another.

mod substituting;

use std::pin::Pin;

use clap::{Arg, ArgAction, Command};
use kiln_cache::{Copied, CopyRequest, Substitute, copy};
use kiln_derivation::Derivation;
use kiln_events::Verbosity;
use kiln_narinfo::Realisation;
use kiln_store::LocalStore;
use kiln_store_path::{DerivedPath, OutputsSpec, StoreDir, StorePath};
use serde_json::json;

use self::substituting::Substituting;
use super::{Entry, Kind, Run};
use crate::ends::Ends;
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Work;
use crate::targets::Target;
use crate::units::mebibytes;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "copy",
    purpose: "Copy paths between stores and binary caches",
    description: "Copies paths, and all that they refer to, from one store or binary cache to another: several at a time, \
        references before referrers, and only what is not there yet. A copy that was broken off goes on where it was when \
        it is repeated. Either end that is not named is the store of '--store'. A local store that gets paths wants a \
        trusted signature of each, as for substitutes (setting 'require-sigs'). Ends are local stores ('local', \
         'local?root=DIR', DIR), stores behind daemons ('daemon', 'unix://SOCKET', on other machines \
         'ssh-ng://[USER@]HOST[:PORT]' or 'ssh://…' with the parameters ssh-key, base64-ssh-public-host-key, compress, remote-program, \
         remote-store) and binary caches ('file://DIR', 'http://…', 'https://…', 's3://BUCKET' with the parameters region, endpoint, scheme and profile). How a cache is written is \
        said by parameters of its URL: compression (xz, zstd, bzip2, gzip, br, none), compression-level, \
        parallel-compression, secret-key (a file), write-nar-listing.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: true,
        examples: &[
            (
                "kiln copy --to 'file:///srv/cache?compression=zstd&secret-key=/root/key' ./result",
                "into a signed cache",
            ),
            ("kiln copy --from https://cache.example.org /nix/store/…-hello", "from a cache into the store"),
            (
                "kiln copy --from ./scratch --to local --no-check-sigs ./scratch/result",
                "from one store to another",
            ),
            (
                "kiln copy --derivation --to file:///srv/drvs ./result",
                "the derivation that made it, and what that needs",
            ),
        ],
        exit_codes: &[],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    command.args([
        Arg::new("path").value_name("PATH").num_args(1..).required_unless_present("all").help(
            "Store paths, derivations with their outputs (DRV^OUT), or links to such; a derivation stands for its outputs",
        ),
        Arg::new("from").long("from").value_name("URL|DIR").help("Where to copy from"),
        Arg::new("to")
            .long("to")
            .value_name("URL|DIR")
            .required_unless_present("from")
            .help("Where to copy to"),
        flag("all").conflicts_with("path").help("Copy all paths of a local store"),
        flag("no-recursive").help("Copy the paths alone; the other end must have what they refer to"),
        flag("derivation").help("Copy the derivations rather than what they make"),
        flag("no-check-sigs").help("Trust the source: what is copied needs no signatures"),
        flag("substitute-on-destination")
            .short('s')
            .help("The store that gets the paths first gets what it can from its own substituters"),
        flag("logs").help("From a local store to a cache: copy the build logs, too"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let work = Work::begin(invocation, invocation.settings()?)?;
    let between = (invocation.text("from"), invocation.text("to"));
    let ends = Ends::open(&work, invocation, between, !invocation.flag("no-check-sigs"))?;
    let mut request = CopyRequest {
        paths: Vec::new(),
        recursive: !invocation.flag("no-recursive"),
        realisations: Vec::new(),
        logs: invocation.flag("logs"),
        contents: Default::default(),
    };
    if invocation.flag("all") {
        request.paths = all(&work, &ends)?;
    }
    for text in invocation.values::<String>("path") {
        let wanted = Wanted { work: &work, ends: &ends, derivation: invocation.flag("derivation") };
        wanted.add(&text, &mut request)?;
    }
    let substituting = match invocation.flag("substitute-on-destination") {
        true => Some(Substituting::at(&ends.destination, &work, invocation)?),
        false => None,
    };
    let substitute = substituting.as_ref().map(|substituting| {
        |paths: Vec<StorePath>| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(substituting.clone().substitute(paths, work.events.clone()))
        }
    });
    let substitute = substitute.as_ref().map(|substitute| substitute as Substitute<'_>);
    let copying =
        async { Ok(copy(&ends.source, &ends.destination, &request, substitute, &work.events).await?) };
    let idle = async {
        if let Some(substituting) = &substituting {
            substituting.idle().await;
        }
    };
    let copied = work.wait(or_interrupted(copying, idle))?;
    let message = summary(&copied);
    work.events.message(Verbosity::Notice, message);
    invocation.terminal.finish();
    if invocation.flag("json") {
        output::print(result_json(&copied, ends.source.store_dir()))?;
    }
    Ok(0)
}

fn all(work: &Work, ends: &Ends) -> Result<Vec<StorePath>, Failure> {
    match (&ends.store, &ends.daemon) {
        (Some(store), _) => Ok(work.wait(store.all_paths())?.into_iter().collect()),
        (None, Some(daemon)) => Ok(work.wait(daemon.all_paths())?.into_iter().collect()),
        (None, None) => Err(Failure::input(
            "a binary cache does not tell what it has; '--all' needs a local store or a daemon",
        )),
    }
}

/// What the arguments mean.
struct Wanted<'a> {
    work: &'a Work,
    ends: &'a Ends,
    /// Derivations are wanted rather than what they make.
    derivation: bool,
}

impl Wanted<'_> {
    fn add(&self, text: &str, request: &mut CopyRequest) -> Result<(), Failure> {
        let target = match Target::parse(text, self.ends.source.store_dir())? {
            Target::Stored(target) => target,
            Target::Recipe { .. } => {
                return Err(Failure::input(format!(
                    "'{text}' is a recipe, and only what is in a store can be copied"
                ))
                .with_hint("'kiln build' makes it, and './result' leads to it then"));
            }
        };
        match (target, self.derivation) {
            (DerivedPath::Opaque(path), false) => request.paths.push(path),
            (DerivedPath::Opaque(path), true) => {
                let info = self.work.wait(self.store(text)?.valid_path_info(&path))?;
                let unknown = || Failure::input(format!("it is not known which derivation made '{text}'"));
                request.paths.push(info.deriver.clone().ok_or_else(unknown)?);
            }
            (DerivedPath::Built { derivation, .. }, true) => request.paths.push(derivation.path),
            (DerivedPath::Built { derivation, outputs }, false) => {
                if !derivation.outputs.is_empty() {
                    return Err(Failure::input(format!("'{text}' has to be built before it can be copied")));
                }
                self.outputs(text, &derivation.path, &outputs, request)?;
            }
        }
        Ok(())
    }

    /// Adds the outputs of a derivation, which must have been built.
    fn outputs(
        &self,
        text: &str,
        path: &StorePath,
        outputs: &OutputsSpec,
        request: &mut CopyRequest,
    ) -> Result<(), Failure> {
        if let Some(daemon) = &self.ends.daemon {
            let known = self.work.wait(daemon.output_map(path))?;
            for (name, path) in known.into_iter().filter(|(name, _)| outputs.contains(name)) {
                let unbuilt =
                    || Failure::input(format!("the output '{name}' of '{text}' has not been built"));
                request.paths.push(path.ok_or_else(unbuilt)?);
            }
            return Ok(());
        }
        let store = self.store(text)?;
        let derivation = self.work.wait(store.read_derivation(path))?;
        for (name, known) in derivation.known_output_paths() {
            if outputs.contains(name) {
                request.paths.push(known.clone());
            }
        }
        let realisations = self.realisations(store, path, &derivation)?;
        for realisation in realisations.into_iter().filter(|found| outputs.contains(&found.id.output)) {
            request.paths.push(realisation.output_path.clone());
            request.realisations.push(realisation);
        }
        Ok(())
    }

    /// What the outputs were built as whose paths follow from their content.
    fn realisations(
        &self,
        store: &LocalStore,
        path: &StorePath,
        derivation: &std::sync::Arc<Derivation>,
    ) -> Result<Vec<Realisation>, Failure> {
        let known: Vec<_> = derivation.known_output_paths().map(|(name, _)| name.clone()).collect();
        let open: Vec<_> = derivation.outputs.keys().filter(|name| !known.contains(name)).cloned().collect();
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let hash = self.work.wait(store.hash_modulo(path, derivation.clone()))?;
        let mut found = Vec::new();
        for name in open {
            let shown = format!("{}^{name}", store.print(path));
            let realisation = self.work.wait(store.realisation(&hash.realisation_id(name)))?;
            found.push(realisation.ok_or_else(|| Failure::input(format!("'{shown}' has not been built")))?);
        }
        Ok(found)
    }

    /// The local store that the paths come from.
    fn store(&self, text: &str) -> Result<&LocalStore, Failure> {
        self.ends.store.as_ref().ok_or_else(|| {
            Failure::input(format!("'{text}' is about a derivation, which only a local store can look into"))
                .with_hint("name the store paths that are to be copied from the cache")
        })
    }
}

fn summary(copied: &Copied) -> String {
    let count = copied.paths.len();
    let paths = if count == 1 { "path" } else { "paths" };
    format!("{count} {paths} copied ({}), {} there already", mebibytes(copied.nar_size), copied.present)
}

fn result_json(copied: &Copied, store_dir: &StoreDir) -> String {
    json::pretty(&json!({
        "paths": copied.paths.iter().map(|path| store_dir.print(path)).collect::<Vec<_>>(),
        "present": copied.present,
        "narSize": copied.nar_size,
        "downloaded": copied.downloaded,
        "written": copied.written,
    }))
}
