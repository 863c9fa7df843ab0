//! `--gc` and `--delete`.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;

use kiln_events::Verbosity;
use kiln_store::{CollectOptions, Collected};
use kiln_store_path::StorePath;

use super::paths::{lines, store_paths};
use super::usage;
use super::work::Work;
use crate::commands::gc::{exit_code, retention};
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::session::Session;
use crate::units::{mebibytes, parse_size};

/// What `--gc` is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    PrintRoots,
    PrintLive,
    PrintDead,
    Delete,
}

pub(super) fn collect_garbage(work: &Work<'_>) -> Result<u8, Failure> {
    let (mut action, mut max_freed) = (Action::Delete, None);
    let mut print_roots = false;
    for flag in work.line.flags() {
        match (flag.name.as_str(), &flag.value) {
            ("--print-roots", _) => print_roots = true,
            ("--print-live", _) => action = Action::PrintLive,
            ("--print-dead", _) => action = Action::PrintDead,
            ("--max-freed", Some(size)) => {
                max_freed = Some(parse_size(&size.to_string_lossy()).map_err(usage)?);
            }
            (other, _) => return Err(usage(format!("bad sub-operation '{other}' in GC"))),
        }
    }
    work.line.no_arguments()?;
    let session = work.session()?;
    match if print_roots { Action::PrintRoots } else { action } {
        Action::PrintRoots => roots(work, &session),
        Action::Delete => delete_garbage(work, &session, max_freed),
        action => find_garbage(work, &session, action),
    }
}

fn roots(work: &Work<'_>, session: &Session) -> Result<u8, Failure> {
    let roots = session.wait(session.store.roots(&session.events))?;
    let mut lines: Vec<String> =
        roots.iter().map(|root| format!("{} -> {}\n", root.holder, session.print(&root.path))).collect();
    lines.sort();
    lines.dedup();
    work.print_at_last(lines.concat())?;
    Ok(0)
}

fn find_garbage(work: &Work<'_>, session: &Session, action: Action) -> Result<u8, Failure> {
    tell(session, "finding garbage collector roots...");
    let retention = retention(&session.settings);
    let finding = async { Ok(session.store.find_garbage(retention, session.events.clone()).await?) };
    let mut garbage = session.wait(or_interrupted(finding, std::future::ready(())))?;
    tell(session, "determining live/dead paths...");
    if action == Action::PrintLive {
        garbage.alive.sort();
        work.print_at_last(lines(session, &garbage.alive))?;
        return Ok(0);
    }
    let dead = garbage.dead.iter().map(|path| session.print(path).into_bytes());
    let store_dir = session.store_dir().as_str().as_bytes();
    let leftovers = garbage.leftovers.iter().map(|name| [store_dir, b"/", name.as_bytes()].concat());
    let mut names: Vec<Vec<u8>> = dead.chain(leftovers).collect();
    names.sort();
    work.print_at_last(
        names.into_iter().flat_map(|name| [name, b"\n".to_vec()].concat()).collect::<Vec<u8>>(),
    )?;
    Ok(0)
}

fn delete_garbage(work: &Work<'_>, session: &Session, max_freed: Option<u64>) -> Result<u8, Failure> {
    tell(session, "finding garbage collector roots...");
    let options = CollectOptions { retention: retention(&session.settings), max_freed };
    let collecting = async { Ok(session.store.collect_garbage(options, session.events.clone()).await?) };
    freed(work, session, session.wait(or_interrupted(collecting, std::future::ready(()))))
}

pub(super) fn delete(work: &Work<'_>) -> Result<u8, Failure> {
    let [ignore_liveness] = work.line.known_flags(["--ignore-liveness"])?;
    let session = work.session()?;
    let paths: BTreeSet<StorePath> = store_paths(&session, &work.line.arguments)?.into_iter().collect();
    tell(&session, "finding garbage collector roots...");
    let (store, retention) = (&session.store, retention(&session.settings));
    let deleting =
        async { Ok(store.delete_paths(paths, ignore_liveness, retention, session.events.clone()).await?) };
    freed(work, &session, session.wait(or_interrupted(deleting, std::future::ready(()))))
}

/// Prints what was freed, also if that was nothing because of a failure.
fn freed(work: &Work<'_>, session: &Session, collected: Result<Collected, Failure>) -> Result<u8, Failure> {
    let told = collected.as_ref().map_or_else(|_| Collected::default(), Clone::clone);
    for path in &told.paths {
        tell(session, format!("deleting '{}'", session.print(path)));
    }
    told.failures.iter().for_each(|failure| session.events.warn(failure.as_str()));
    let number = told.paths.len() + told.leftovers.len();
    work.print_at_last(format!("{number} store paths deleted, {} freed\n", mebibytes(told.freed)))?;
    collected.map(|collected| exit_code(&collected))
}

fn tell(session: &Session, message: impl Into<kiln_events::Text>) {
    session.events.message(Verbosity::Info, message);
}
