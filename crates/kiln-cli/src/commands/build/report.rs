//! What failed, told at the end.

use std::collections::BTreeMap;

use kiln_build::{BuildAnswer, TargetResult};
use kiln_console::{FailedGoal, FinalReport, LogFormat, LogsShown};
use kiln_events::{ErrorClass, ErrorReport, Text, Verbosity};
use kiln_store_path::DerivedPath;

use crate::any_store::StoreView;
use crate::session::Session;
use crate::terminal::Terminal;

/// Tells of all failures: causes first, each once, then what they prevented.
pub(super) fn failures<S: StoreView>(answer: &BuildAnswer, session: &Session<S>, terminal: &Terminal) {
    if terminal.format == LogFormat::InternalJson {
        return errors(answer, session, terminal);
    }
    let failures = answer.failures.iter();
    let goals =
        failures.map(|failed| FailedGoal::new(session.print(&failed.derivation), failed.result.clone()));
    let logs = if terminal.format.shows_logs() { LogsShown::Live } else { LogsShown::No };
    let text = FinalReport::new(goals).render(logs, terminal.colours);
    if !text.is_empty() {
        session.events.message(Verbosity::Error, text.trim_end());
    }
    of_targets(answer, session);
}

/// The same as errors, one for each failure, as programs of Nix tell them.
pub(crate) fn errors<S: StoreView>(answer: &BuildAnswer, session: &Session<S>, terminal: &Terminal) {
    for failed in &answer.failures {
        let mut message = failed.result.error_message.as_bytes().to_vec();
        let derivation = session.print(&failed.derivation);
        let tail = &failed.result.log_tail;
        if terminal.format == LogFormat::Raw && !tail.is_empty() {
            message.extend_from_slice(format!(";\nlast {} log lines:\n", tail.len()).as_bytes());
            for line in tail {
                message.extend_from_slice(&[b"> ", line.as_bytes(), b"\n"].concat());
            }
            message.extend_from_slice(format!("For full logs, run 'nix-store -l {derivation}'.").as_bytes());
        }
        let report = ErrorReport::new(ErrorClass::BuildFailure, message);
        session.events.error(report.with_subject(derivation));
    }
    of_targets(answer, session);
}

/// Tells of targets that failed without a derivation that did, and which targets did if there are several.
fn of_targets<S: StoreView>(answer: &BuildAnswer, session: &Session<S>) {
    for (message, targets) in others(answer) {
        let mut text = message.as_bytes().to_vec();
        for target in targets {
            text.extend_from_slice(format!("\nfor {}", target.print(session.store_dir())).as_bytes());
        }
        session.events.error(ErrorReport::new(ErrorClass::BuildFailure, text));
    }
    if let Some(summary) = summary(answer, session) {
        session.events.error(ErrorReport::new(ErrorClass::BuildFailure, summary));
    }
}

/// Which targets failed, if more than one did: those that were cancelled because of another are among them.
fn summary<S: StoreView>(answer: &BuildAnswer, session: &Session<S>) -> Option<String> {
    let failed = answer.results.iter().filter(|result| !result.result.is_success());
    let paths: Vec<String> = failed
        .map(|result| match &result.target {
            DerivedPath::Built { derivation, .. } => format!("'{}'", session.print(&derivation.path)),
            DerivedPath::Opaque(path) => format!("'{}'", session.print(path)),
        })
        .collect();
    (paths.len() > 1).then(|| format!("build of {} failed", paths.join(", ")))
}

/// The messages of targets that failed without a derivation that did, with the targets of each.
fn others(answer: &BuildAnswer) -> BTreeMap<&Text, Vec<&DerivedPath>> {
    let is_told = |result: &&TargetResult| match &result.target {
        DerivedPath::Built { derivation, .. } => {
            answer.failures.iter().any(|failed| failed.derivation == derivation.path)
        }
        DerivedPath::Opaque(path) => answer.failures.iter().any(|failed| failed.derivation == *path),
    };
    let mut others: BTreeMap<&Text, Vec<&DerivedPath>> = BTreeMap::new();
    for result in answer.results.iter().filter(|result| !result.result.is_success() && !is_told(result)) {
        others.entry(&result.result.error_message).or_default().push(&result.target);
    }
    others
}
