//! `kiln store verify`.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, value_parser};
use kiln_build::Engine;
use kiln_hash::{Hash, Sha256};
use kiln_store::{Finding, Follow, Repair, Verdict, Verified};
use kiln_store_path::StorePath;
use serde_json::{Value, json};

use super::{Entry, Kind, Run, lines, paths, paths_argument, trust};
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "verify",
    purpose: "Compare the store with what is on record of it",
    description: "Looks whether all valid paths are on the disk. Those that are gone and that nothing refers to are not valid \
        any more then. With PATH, or for the whole store with --check-contents, reads the contents of paths and compares them \
        with the hashes on record, and the files that paths share with the names of these. The paths \
        that are missing or were changed are printed, with the reason on standard error. With --repair, they are had from a \
        substituter or built again, and only those are printed that cannot be. With --sigs-needed, paths are printed as well \
        that too few of the keys in 'trusted-public-keys' have signed.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                paths_argument().help("Paths whose contents to verify; without any, the whole store"),
                Arg::new("check-contents")
                    .long("check-contents")
                    .action(ArgAction::SetTrue)
                    .help("Read the contents of all paths, too"),
                Arg::new("repair")
                    .long("repair")
                    .action(ArgAction::SetTrue)
                    .help("Make good what is missing or was changed"),
                Arg::new("sigs-needed")
                    .short('n')
                    .long("sigs-needed")
                    .value_name("N")
                    .value_parser(value_parser!(u32))
                    .help("Also look whether N trusted keys have signed each path; 0 lets pass what was built here"),
                Arg::new("recursive")
                    .short('r')
                    .long("recursive")
                    .action(ArgAction::SetTrue)
                    .requires("path")
                    .help("Also verify all that the paths refer to"),
                Arg::new("no-contents")
                    .long("no-contents")
                    .action(ArgAction::SetTrue)
                    .requires("sigs-needed")
                    .conflicts_with_all(["check-contents", "repair"])
                    .help("Look at signatures only"),
                json::argument(),
            ])
        },
        takes_settings: true,
        examples: &[
            ("kiln store verify", "whether all is there"),
            ("kiln store verify --check-contents", "whether all is what it was"),
            ("kiln store verify --check-contents --repair", "make it so"),
            ("kiln store verify --recursive ./result", "a result and all that it needs"),
            ("kiln store verify --sigs-needed 1 --no-contents", "whether all paths are signed"),
        ],
        exit_codes: &[
            ("1", "also if something is missing or was changed, and not repaired"),
            ("2", "signatures are missing; 3 if both is so"),
        ],
        run,
    }),
};

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let engine = if invocation.flag("repair") { Some(session.engine(invocation)?) } else { None };
    let mut wanted = paths(&session, invocation)?;
    if invocation.flag("recursive") {
        wanted = session.wait(session.store.closure(wanted, Follow::REFERENCES))?.into_iter().collect();
    }
    let work = async {
        let repair = engine.as_ref().map(|engine| engine as &dyn Repair);
        let verified = if invocation.flag("no-contents") {
            Verified::default()
        } else if wanted.is_empty() {
            let check_contents = invocation.flag("check-contents");
            session.store.verify(check_contents, repair, session.events.clone()).await?
        } else {
            verify_paths(&session, &wanted, repair).await?
        };
        idle(engine.as_ref()).await;
        Ok(verified)
    };
    let verified = session.wait(or_interrupted(work, idle(engine.as_ref())))?;
    for finding in verified.repaired.iter().chain(&verified.findings) {
        session.events.warn(complaint(&session, finding));
    }
    let untrusted = untrusted_paths(&session, invocation, wanted)?;
    let bad: Vec<&Finding> = verified.findings.iter().filter(|finding| finding.is_error()).collect();
    if engine.is_some() && !bad.is_empty() {
        session.events.warn("not all store errors were fixed");
    }
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        json::pretty(&verified_json(&session, &verified, &untrusted))
    } else {
        let paths: BTreeSet<&StorePath> =
            bad.iter().filter_map(|finding| finding.path()).chain(&untrusted).collect();
        lines(&session, paths)
    })?;
    let code = |is_bad: bool, code| if is_bad { code } else { 0 };
    Ok(code(!bad.is_empty(), GENERAL_EXIT_CODE) | code(!untrusted.is_empty(), trust::UNTRUSTED_EXIT_CODE))
}

/// The paths that have too few signatures, if that is asked for; of the whole store if none is named.
fn untrusted_paths(
    session: &Session,
    invocation: &Invocation<'_>,
    mut wanted: Vec<StorePath>,
) -> Result<Vec<StorePath>, Failure> {
    let Some(needed) = invocation.matches.get_one::<u32>("sigs-needed") else { return Ok(Vec::new()) };
    let needed = usize::try_from(*needed).unwrap_or(usize::MAX);
    if wanted.is_empty() {
        wanted = session.wait(session.store.all_paths())?.into_iter().collect();
    }
    let untrusted = trust::untrusted(session, &wanted, needed)?;
    for (path, signatures) in &untrusted {
        let path = session.print(path);
        session.events.warn(format!(
            "path '{path}' is untrusted: it has {signatures} of {} signatures by trusted keys",
            needed.max(1)
        ));
    }
    Ok(untrusted.into_iter().map(|(path, _)| path).collect())
}

async fn idle(engine: Option<&Engine>) {
    if let Some(engine) = engine {
        engine.idle().await;
    }
}

/// Reads the contents of some paths, and repairs what is bad if that is wanted.
async fn verify_paths(
    session: &Session,
    paths: &[StorePath],
    repair: Option<&dyn Repair>,
) -> Result<Verified, Failure> {
    let mut verified = Verified::default();
    for path in paths {
        verified.paths += 1;
        let Some(finding) = verdict(session, path).await? else { continue };
        let is_repaired = match repair {
            Some(repair) => repair.repair(path).await?,
            None => false,
        };
        if is_repaired { &mut verified.repaired } else { &mut verified.findings }.push(finding);
    }
    Ok(verified)
}

/// What is wrong with one path, if anything.
async fn verdict(session: &Session, path: &StorePath) -> Result<Option<Finding>, Failure> {
    let path = path.clone();
    Ok(match session.store.verify_contents(&path).await? {
        Verdict::Good | Verdict::Recorded => None,
        Verdict::Missing => Some(Finding::Missing { path, referrers: Vec::new() }),
        Verdict::Modified { expected, found } => Some(Finding::Modified { path, expected, found }),
        Verdict::NotValid => {
            return Err(Failure::input(format!("path '{}' is not valid", session.print(&path))));
        }
    })
}

fn complaint(session: &Session, finding: &Finding) -> String {
    let shown = |path: &StorePath| session.print(path);
    let sri = |hash: &Sha256| Hash::from(*hash).sri();
    match finding {
        Finding::Disappeared(path) => {
            format!("path '{}' disappeared, removed from the database", shown(path))
        }
        Finding::Missing { path, referrers } if referrers.is_empty() => {
            format!("path '{}' is missing on the disk", shown(path))
        }
        Finding::Missing { path, referrers } => {
            let referrers: Vec<String> = referrers.iter().map(|path| format!("'{}'", shown(path))).collect();
            format!("path '{}' disappeared, but it is needed by {}", shown(path), referrers.join(", "))
        }
        Finding::Modified { path, expected, found } => format!(
            "path '{}' was modified! expected hash '{}', got '{}'",
            shown(path),
            sri(expected),
            sri(found)
        ),
        Finding::Unreadable { path, reason } => format!("path '{}' cannot be read: {reason}", shown(path)),
        Finding::CorruptLink { entry } => format!("link '{}' was modified!", entry.display()),
    }
}

/// What was found, as JSON.
fn verified_json(session: &Session, verified: &Verified, untrusted: &[StorePath]) -> Value {
    let all = |findings: &[Finding], is_error: bool| -> Vec<Value> {
        let findings = findings.iter().filter(|finding| finding.is_error() == is_error);
        findings.map(|finding| finding_json(session, finding)).collect()
    };
    json!({
        "paths": verified.paths,
        "damaged": all(&verified.findings, true),
        "repaired": all(&verified.repaired, true),
        "disappeared": all(&verified.findings, false),
        "untrusted": untrusted.iter().map(|path| session.print(path)).collect::<Vec<_>>(),
    })
}

fn finding_json(session: &Session, finding: &Finding) -> Value {
    let shown = |path: &StorePath| session.print(path);
    let sri = |hash: &Sha256| Hash::from(*hash).sri();
    match finding {
        Finding::Disappeared(path) => json!({ "path": shown(path), "problem": "disappeared" }),
        Finding::Missing { path, referrers } => {
            let referrers: Vec<String> = referrers.iter().map(shown).collect();
            json!({ "path": shown(path), "problem": "missing", "referrers": referrers })
        }
        Finding::Modified { path, expected, found } => json!({
            "path": shown(path),
            "problem": "modified",
            "expectedNarHash": sri(expected),
            "narHash": sri(found),
        }),
        Finding::Unreadable { path, reason } => {
            json!({ "path": shown(path), "problem": "unreadable", "reason": reason })
        }
        Finding::CorruptLink { entry } => {
            json!({ "file": entry.display().to_string(), "problem": "corrupt link" })
        }
    }
}
