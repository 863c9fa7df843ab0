//! The way of one path that somebody else has: ask → references → fetch (G1–G5). A valid one is fetched to replace what is
//! damaged (D15, R4).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, ready};
use kiln_events::{Activity, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_narinfo::PathInfo;
use kiln_schedule::{JobKind, Priority, Urgency};
use kiln_store_path::StorePath;
use kiln_substitute::{Candidate, Existing, Search, Substituters, Turn, Verdict};

use super::origin::{Origin, Reason};
use super::outcome::{Outcome, OutcomeKind, SharedOutcome};
use crate::audience::{Audience, ExpectedWork};
use crate::core::Core;
use crate::counters::{Size, Work};
use crate::error::Failure;

/// Whom a path's goal tells what happens.
#[derive(Debug)]
pub(crate) struct PathGoal {
    pub(crate) audience: Arc<Audience>,
}

/// Makes a path valid, and all that it refers to before. One that is valid can be replaced; of what it refers to, nothing is.
pub(crate) async fn path_goal(core: Arc<Core>, path: StorePath, existing: Existing) -> SharedOutcome {
    match realise(&core, &path, existing).await {
        Ok(outcome) => outcome,
        Err(failure) => Arc::new(Outcome::failure(OutcomeKind::Failed, failure.into_result())),
    }
}

async fn realise(core: &Core, path: &StorePath, existing: Existing) -> Result<SharedOutcome, Failure> {
    core.store.add_temp_roots(vec![path.clone()]).await?;
    match (existing, core.store.is_valid(path).await?) {
        (Existing::Stays, true) => {
            let result = BuildResult::new(BuildStatus::AlreadyValid);
            Ok(Arc::new(Outcome::success(result, Default::default())))
        }
        // That nobody is to wait for itself is watched over there.
        (Existing::IsReplaced, false) => {
            let goal = core.want_path(path, Existing::Stays);
            Ok(goal.result().await.unwrap_or_else(Outcome::lost))
        }
        (existing, _) => Ok(Arc::new(substitute(core, path, existing).await?)),
    }
}

async fn substitute(core: &Core, path: &StorePath, existing: Existing) -> Result<Outcome, Failure> {
    let missing = || {
        let message =
            format!("path '{}' does not exist and cannot be created", core.store_dir().display(path));
        Failure::new(BuildStatus::NoSubstituters, message)
    };
    let nobody = |failure: Failure| Outcome::failure(OutcomeKind::NoSubstituters, failure.into_result());
    let Some(substituters) = core.substituters().await else { return Ok(nobody(missing())) };
    if core.store.config().read_only {
        let path = core.store_dir().display(path);
        let message = format!("cannot substitute path '{path}' - no write access to the Nix store");
        return Err(Failure::misc(message));
    }
    let mut search = substituters.find(path);
    let mut origin = Origin::default();
    let found = from_search(core, path, existing, substituters, (&mut search, &mut origin)).await?;
    let mut outcome = match found {
        Some(outcome) => outcome,
        None => {
            // A substituter that does not answer breaks nothing; but who wants to know why there is no path is told.
            let mut failure = missing();
            for trouble in search.troubles() {
                core.audience.warn_of(&trouble.matter(), &trouble.to_string());
                failure =
                    Failure::new(failure.status, format!("{}\n{trouble}", failure.message.to_str_lossy()));
            }
            nobody(failure)
        }
    };
    origin.note(&search);
    outcome.origins.insert(path.clone(), origin);
    Ok(outcome)
}

/// Fetches a path from the best of those that a search finds; nothing if nobody offers it.
async fn from_search(
    core: &Core,
    path: &StorePath,
    existing: Existing,
    substituters: &Substituters,
    (search, origin): (&mut Search, &mut Origin),
) -> Result<Option<Outcome>, Failure> {
    let mut failed = None;
    // What nobody offers is not expected either.
    let mut expected: Option<ExpectedWork> = None;
    while let Some(candidate) = search.next().await {
        if let Verdict::Untrusted(objection) = substituters.verdict(&candidate) {
            origin.pass_over(candidate.substituter(), Reason::Untrusted(objection.to_string()));
            core.events.warn(format!(
                "substituter '{}' does not have a valid signature for path '{}'",
                candidate.substituter(),
                core.store_dir().display(path)
            ));
            continue;
        }
        let work = work(&candidate);
        let counted = match &mut expected {
            Some(counted) => {
                counted.replace(work);
                counted
            }
            None => {
                core.figures.substituter_hits.increment();
                expected.insert(core.audience.expect(work))
            }
        };
        if let Some(kind) = want_references(core, path, &candidate).await? {
            let message =
                format!("some references of path '{}' could not be realised", core.store_dir().display(path));
            origin.pass_over(candidate.substituter(), Reason::Incomplete);
            return Ok(Some(Outcome::failure(kind, Failure::misc(message).into_result())));
        }
        match fetch(core, substituters, &candidate, existing, counted).await {
            Ok(()) => {
                expected.into_iter().for_each(|counted| counted.end(true));
                let result = BuildResult::new(BuildStatus::Substituted);
                origin.substituter = Some(candidate.substituter().to_owned());
                return Ok(Some(Outcome::success(result, Default::default())));
            }
            Err(error) => {
                origin.pass_over(candidate.substituter(), Reason::Broken(error.to_string()));
                core.audience.warn_of(&error.matter(), &error.to_string());
                // What has gone since it was asked for was never offered.
                if !error.is_gone() {
                    failed = Some(error);
                }
            }
        }
    }
    if let Some(error) = failed {
        expected.into_iter().for_each(|counted| counted.end(false));
        return Ok(Some(Outcome::failure(
            OutcomeKind::Failed,
            Failure::new(BuildStatus::TransientFailure, error.to_string()).into_result(),
        )));
    }
    if expected.is_none() {
        core.figures.substituter_misses.increment();
    }
    Ok(None)
}

/// Makes valid what a path refers to (G4). How that ended, if not well.
async fn want_references(
    core: &Core,
    path: &StorePath,
    candidate: &Candidate,
) -> Result<Option<OutcomeKind>, Failure> {
    let references: Vec<StorePath> =
        candidate.info().references.iter().filter(|reference| *reference != path).cloned().collect();
    let valid = core.valid(&references).await?;
    let missing: BTreeSet<StorePath> = references.into_iter().filter(|path| !valid.contains(path)).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let Some(_waiting) = core.profile.waiting_paths.wait(path, missing.clone()) else {
        return Err(Failure::misc(format!(
            "substituter '{}' says that path '{}' refers to itself through others",
            candidate.substituter(),
            core.store_dir().display(path)
        )));
    };
    // Their goals, and the roots that these hold, may end before this one has registered who refers to them.
    core.store.add_temp_roots(missing.iter().cloned().collect()).await?;
    let goals: Vec<_> = missing.iter().map(|path| core.want_path(path, Existing::Stays)).collect();
    let outcomes = join_all(goals.iter().map(|goal| goal.result())).await;
    let kinds: Vec<OutcomeKind> =
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(Outcome::lost).kind).collect();
    let is_incomplete =
        |kind: &OutcomeKind| matches!(kind, OutcomeKind::NoSubstituters | OutcomeKind::IncompleteClosure);
    Ok(if kinds.iter().any(is_incomplete) {
        Some(OutcomeKind::IncompleteClosure)
    } else if kinds.contains(&OutcomeKind::Failed) {
        Some(OutcomeKind::Failed)
    } else {
        None
    })
}

/// What a candidate makes a substitution count for (G7). What comes without a file is no download.
fn work(candidate: &Candidate) -> Work {
    let file = candidate.offer().file.as_ref();
    Work::substitution(Size {
        download: file.and_then(|file| file.size).unwrap_or(0),
        nar: candidate.info().nar_size,
    })
}

/// Large paths go first: all is there sooner if what takes longest does not begin last.
fn priority(info: &PathInfo, download_size: u64) -> Priority {
    // A nanosecond for each byte to download or to unpack: which takes longer is all that counts.
    let bytes = download_size.saturating_add(info.nar_size);
    let urgency = Urgency { remaining: Duration::from_nanos(bytes), dependents: 0 };
    Priority::plain(info.path.name(), info.path.base_name()).with_urgency(urgency)
}

async fn fetch(
    core: &Core,
    substituters: &Substituters,
    candidate: &Candidate,
    existing: Existing,
    counted: &mut ExpectedWork,
) -> Result<(), kiln_substitute::Error> {
    let slot = core
        .slots
        .acquire(JobKind::Substitution, priority(candidate.info(), candidate.offer().download_size()));
    // The turn first, and then the slot, always: of those who had the one, everybody would wait for the other.
    let turn = candidate.turn().await;
    // Whoever only waits for a server takes no slot from those who have something to do.
    let only_waits = turn.as_ref().is_some_and(Turn::is_brief);
    let slot = if only_waits { slot.left_future() } else { ready(slot.await).right_future() };
    counted.start();
    let activity = Activity::Substitute {
        path: core.store_dir().print(&candidate.info().path).into(),
        substituter: candidate.substituter().into(),
    };
    let activity = core.events.start(ActivityId::NONE, Verbosity::Error, activity);
    let told = (&core.events, activity.id());
    let fetched = substituters.fetch(candidate, &core.store, existing, (turn, slot), told).await;
    match &fetched {
        Ok(fetched) => core.figures.substituted(fetched),
        Err(_) => counted.pause(),
    }
    fetched.map(drop)
}

/// Which paths wait for which others to be fetched. References that substituters claim may go in a circle, in which everybody
/// would wait for ever.
#[derive(Debug, Default)]
pub(crate) struct WaitingPaths(Mutex<HashMap<StorePath, BTreeSet<StorePath>>>);

/// A path that waits, until this is dropped: also if its goal is given up.
#[derive(Debug)]
struct Waiting<'a> {
    paths: &'a WaitingPaths,
    path: StorePath,
}

impl WaitingPaths {
    /// Notes that a path waits for others; nothing if one of these waits for it.
    fn wait(&self, path: &StorePath, others: BTreeSet<StorePath>) -> Option<Waiting<'_>> {
        let goes_on = self.with(|waiting| {
            let mut seen: HashSet<&StorePath> = HashSet::new();
            let mut open: Vec<&StorePath> = others.iter().collect();
            while let Some(next) = open.pop() {
                if next == path {
                    return false;
                }
                if seen.insert(next) {
                    open.extend(waiting.get(next).into_iter().flatten());
                }
            }
            waiting.insert(path.clone(), others.clone());
            true
        });
        goes_on.then(|| Waiting { paths: self, path: path.clone() })
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<StorePath, BTreeSet<StorePath>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.paths.with(|waiting| waiting.remove(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_large_paths_are_fetched_before_small_ones() {
        let info = |name: &str, nar_size: u64| {
            let path = StorePath::from_base_name(format!("{}-{name}", "1".repeat(32))).unwrap();
            PathInfo::new(path, kiln_hash::Sha256::UNKNOWN, nar_size)
        };
        let (small, large) = (info("a", 1 << 10), info("b", 1 << 30));
        assert!(priority(&large, 1 << 28) < priority(&small, 1 << 10));
        assert!(priority(&small, 1 << 30) < priority(&small, 1 << 10));
        assert!(priority(&small, 0) < priority(&info("b", 1 << 10), 0), "then in the order of their names");
    }

    #[test]
    fn g4_references_in_a_circle_are_noticed() {
        let path = |name: &str| StorePath::from_base_name(format!("{}-{name}", "1".repeat(32))).unwrap();
        let (waiting, set) =
            (WaitingPaths::default(), |names: &[&str]| names.iter().map(|name| path(name)).collect());
        let a = waiting.wait(&path("a"), set(&["b", "c"])).unwrap();
        let b = waiting.wait(&path("b"), set(&["c"])).unwrap();
        assert!(waiting.wait(&path("c"), set(&["d", "a"])).is_none());
        drop((a, b));
        assert!(waiting.wait(&path("c"), set(&["d", "a"])).is_some());
        assert!(waiting.with(|waiting| waiting.is_empty()), "nothing is remembered of what waits no more");
    }
}
