//! `--init`, `--verify`, `--verify-path`, `--repair-path`, `--optimise`.

use kiln_events::{ErrorClass, ErrorReport, Verbosity};
use kiln_hash::Sha256;
use kiln_store::{Finding, Repair, Verdict};

use super::paths::{store_path, store_paths};
use super::work::Work;
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::session::Session;
use crate::units::mebibytes;

/// To open a store is to make what is missing of it.
pub(super) fn init(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("unknown flag")?;
    work.line.no_arguments()?;
    work.session()?;
    Ok(0)
}

pub(super) fn verify(work: &Work<'_>) -> Result<u8, Failure> {
    let [check_contents, repair] = work.line.known_flags(["--check-contents", "--repair"])?;
    work.line.no_arguments()?;
    let session = work.session()?;
    let engine = if repair { Some(work.engine(&session)?) } else { None };
    let steps = ["reading the Nix store...", "checking path existence..."];
    let contents = ["checking link hashes...", "checking store hashes..."];
    for step in steps.iter().chain(contents.iter().filter(|_| check_contents)) {
        session.events.message(Verbosity::Info, *step);
    }
    let idle = || async {
        if let Some(engine) = &engine {
            engine.idle().await;
        }
    };
    let verifying = async {
        let repair = engine.as_ref().map(|engine| engine as &dyn Repair);
        let verified = session.store.verify(check_contents, repair, session.events.clone()).await;
        idle().await;
        Ok(verified?)
    };
    let verified = session.wait(or_interrupted(verifying, idle()))?;
    for finding in verified.findings.iter().chain(&verified.repaired) {
        session.events.message(Verbosity::Error, complaint(&session, finding));
    }
    let is_good = !verified.findings.iter().any(Finding::is_error);
    if !is_good {
        session.events.warn("not all store errors were fixed");
    }
    Ok(Work::exit_code(is_good))
}

pub(super) fn verify_path(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("no flags expected")?;
    let session = work.session()?;
    let mut is_good = true;
    for argument in &work.line.arguments {
        let path = store_path(&session, argument)?;
        let finding = match session.wait(session.store.verify_contents(&path))? {
            Verdict::Good | Verdict::Recorded => continue,
            Verdict::Missing => Finding::Missing { path, referrers: Vec::new() },
            Verdict::Modified { expected, found } => Finding::Modified { path, expected, found },
            Verdict::NotValid => {
                return Err(Failure::input(format!("path '{}' is not valid", session.print(&path))));
            }
        };
        session.events.message(Verbosity::Error, complaint(&session, &finding));
        is_good = false;
    }
    Ok(Work::exit_code(is_good))
}

fn complaint(session: &Session, finding: &Finding) -> String {
    let hash = |hash: &Sha256| format!("sha256:{}", hash.nix32());
    match finding {
        Finding::Disappeared(path) => {
            format!("path '{}' disappeared, removing from database...", session.print(path))
        }
        Finding::Missing { path, referrers } if referrers.is_empty() => {
            format!("path '{}' is missing on the disk", session.print(path))
        }
        Finding::Missing { path, .. } => {
            format!("path '{}' disappeared, but it still has valid referrers!", session.print(path))
        }
        Finding::Modified { path, expected, found } => format!(
            "path '{}' was modified! expected hash '{}', got '{}'",
            session.print(path),
            hash(expected),
            hash(found)
        ),
        Finding::Unreadable { path, reason } => {
            format!("path '{}' cannot be read: {reason}", session.print(path))
        }
        Finding::CorruptLink { entry } => format!("link '{}' was modified!", entry.display()),
    }
}

pub(super) fn repair_path(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_flags("no flags expected")?;
    let session = work.session()?;
    let paths = store_paths(&session, &work.line.arguments)?;
    paths.iter().try_for_each(|path| session.path_info(path).map(drop))?;
    let engine = work.engine(&session)?;
    let repairing = async {
        for path in &paths {
            let result = engine.repair_path(path).await;
            if !result.is_success() {
                engine.idle().await;
                let report = ErrorReport::new(ErrorClass::BuildFailure, result.error_message);
                session.events.error(report);
                return Err(Failure::already_told(Work::exit_code(false)));
            }
        }
        engine.idle().await;
        Ok(0)
    };
    session.wait(or_interrupted(repairing, engine.idle()))
}

pub(super) fn optimise(work: &Work<'_>) -> Result<u8, Failure> {
    work.line.no_arguments()?;
    work.line.no_flags("no arguments expected")?;
    let session = work.session()?;
    let optimising = async { Ok(session.store.optimise(session.events.clone()).await?) };
    let optimised = session.wait(or_interrupted(optimising, std::future::ready(())))?;
    for file in &optimised.suspicious {
        session.events.warn(format!("skipping suspicious writable file '{}'", file.display()));
    }
    optimised.failures.iter().for_each(|failure| session.events.warn(failure.as_str()));
    let saved = format!("{} freed by hard-linking {} files", mebibytes(optimised.bytes), optimised.files);
    session.events.message(Verbosity::Info, saved);
    Ok(Work::exit_code(optimised.failures.is_empty()))
}
