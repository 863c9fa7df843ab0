//! What failed, told at the end.

use std::collections::BTreeSet;

use kiln_events::{BuildResult, BuildStatus, Colours, safe_line, safe_text};

use crate::names::derivation_name;
use crate::style::Style;

/// How many names of derivations that were not built are listed.
const MAX_NAMES: usize = 20;

/// A derivation that was not built.
#[derive(Clone, Debug)]
pub struct FailedGoal {
    /// Full path of the derivation.
    pub drv: String,
    /// How it ended.
    pub result: BuildResult,
    /// The phase that the builder was in, if it said so.
    pub phase: Option<String>,
    /// Where its build directory was kept.
    pub kept_directory: Option<String>,
}

impl FailedGoal {
    /// A derivation with its result and nothing else.
    #[must_use]
    pub fn new(drv: impl Into<String>, result: BuildResult) -> FailedGoal {
        FailedGoal { drv: drv.into(), result, phase: None, kept_directory: None }
    }
}

/// Whether people have seen the logs of builds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogsShown {
    /// They were shown as they came: the end of them need not be repeated.
    Live,
    /// They were not.
    No,
}

/// The failures of a request: causes, and what they prevented.
#[derive(Clone, Debug, Default)]
pub struct FinalReport {
    causes: Vec<FailedGoal>,
    prevented: Vec<String>,
}

impl FinalReport {
    /// The report on these derivations, in their order; successes are left out, and a derivation that is named twice
    /// counts once.
    #[must_use]
    pub fn new(goals: impl IntoIterator<Item = FailedGoal>) -> FinalReport {
        let mut report = FinalReport::default();
        let mut seen = BTreeSet::new();
        for goal in goals {
            if goal.result.is_success() || !seen.insert(goal.drv.clone()) {
                continue;
            }
            match goal.result.status {
                BuildStatus::DependencyFailed => report.prevented.push(goal.drv),
                _ => report.causes.push(goal),
            }
        }
        report
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.causes.is_empty() && self.prevented.is_empty()
    }

    /// The report as text, each line with its newline; empty if nothing failed.
    #[must_use]
    pub fn render(&self, logs: LogsShown, colours: bool) -> String {
        let mut text = String::new();
        for goal in &self.causes {
            text.push_str(&cause(goal, logs, colours));
        }
        if !self.prevented.is_empty() {
            let number = self.prevented.len();
            let because = if self.causes.is_empty() { "their dependencies" } else { "them" };
            let heading = format!("could not be built because of {because}: {}", derivations(number));
            text.push_str(&Style::Bold.paint(colours, &heading));
            text.push('\n');
            let names: Vec<String> =
                self.prevented.iter().take(MAX_NAMES).map(|drv| clean(derivation_name(drv))).collect();
            let more = number.saturating_sub(MAX_NAMES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            text.push_str(&format!("  {}{more}\n", names.join(", ")));
        }
        text
    }
}

fn derivations(number: usize) -> String {
    if number == 1 { "1 derivation".to_owned() } else { format!("{number} derivations") }
}

/// One cause: what failed, how, the end of its log, and where to find the rest.
fn cause(goal: &FailedGoal, logs: LogsShown, colours: bool) -> String {
    let error = Style::Red.paint(colours, "error:");
    let name = Style::Bold.paint(colours, &clean(derivation_name(&goal.drv)));
    let phase = goal.phase.as_deref().map_or_else(String::new, |phase| format!(" (in {})", clean(phase)));
    let message = message(goal, colours);
    let mut text = format!("{error} {name}{phase}: {}\n", message.replace('\n', "\n       "));
    let tail = &goal.result.log_tail;
    // Other daemons put the end of the log into the message.
    if logs == LogsShown::No && !tail.is_empty() && !message.contains("log lines:") {
        let lines = if tail.len() == 1 {
            "last log line:".to_owned()
        } else {
            format!("last {} log lines:", tail.len())
        };
        text.push_str(&format!("       {lines}\n"));
        for line in tail {
            text.push_str(&format!("       > {}\n", safe_line(line.as_bytes(), keep(colours))));
        }
    }
    if has_log(goal.result.status) {
        text.push_str(&format!("       full log: kiln log {}\n", clean(&goal.drv)));
    }
    if let Some(directory) = &goal.kept_directory {
        text.push_str(&format!("       build directory: {}\n", clean(directory)));
    }
    text
}

fn message(goal: &FailedGoal, colours: bool) -> String {
    let message = safe_text(goal.result.error_message.as_bytes(), keep(colours));
    let message = message.trim_end();
    if message.is_empty() { format!("failed ({})", goal.result.status.name()) } else { message.to_owned() }
}

/// Whether a builder ran, so that there may be a log.
fn has_log(status: BuildStatus) -> bool {
    matches!(
        status,
        BuildStatus::PermanentFailure
            | BuildStatus::OutputRejected
            | BuildStatus::TransientFailure
            | BuildStatus::TimedOut
            | BuildStatus::LogLimitExceeded
            | BuildStatus::NotDeterministic
            | BuildStatus::HashMismatch
            | BuildStatus::RoundsDiffer
    )
}

fn clean(text: &str) -> String {
    safe_line(text.as_bytes(), Colours::Strip)
}

fn keep(colours: bool) -> Colours {
    if colours { Colours::Keep } else { Colours::Strip }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp";

    fn goal(name: &str, status: BuildStatus, message: &str) -> FailedGoal {
        FailedGoal::new(format!("/nix/store/{DIGEST}-{name}.drv"), BuildResult::failure(status, message))
    }

    #[test]
    fn causes_first_and_each_once() {
        let mut hello = goal("hello-2.12", BuildStatus::PermanentFailure, "builder failed with exit code 2");
        hello.result.log_tail = vec!["checking for gcc".into(), "\x1b]0;x\x07no gcc".into()];
        hello.phase = Some("configurePhase".into());
        hello.kept_directory = Some("/tmp/kiln-build-hello-2.12-0".into());
        let mismatch = "hash mismatch in fixed-output derivation 'D':\n  specified: A\n     got:    B";
        let report = FinalReport::new([
            goal("top-1", BuildStatus::DependencyFailed, "1 dependency failed"),
            hello.clone(),
            goal("fine-1", BuildStatus::Built, ""),
            goal("src-1.tar.gz", BuildStatus::HashMismatch, mismatch),
            hello,
            goal("middle-1", BuildStatus::DependencyFailed, ""),
        ]);
        assert!(!report.is_empty());
        assert_eq!(
            report.render(LogsShown::No, false),
            "error: hello-2.12 (in configurePhase): builder failed with exit code 2
       last 2 log lines:
       > checking for gcc
       > no gcc
       full log: kiln log /nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-hello-2.12.drv
       build directory: /tmp/kiln-build-hello-2.12-0
error: src-1.tar.gz: hash mismatch in fixed-output derivation 'D':
         specified: A
            got:    B
       full log: kiln log /nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-src-1.tar.gz.drv
could not be built because of them: 2 derivations
  top-1, middle-1
"
        );
        assert!(!report.render(LogsShown::Live, false).contains("log lines"));
        assert!(
            report
                .render(LogsShown::No, true)
                .starts_with("\x1b[31;1merror:\x1b[0m \x1b[1mhello-2.12\x1b[0m (")
        );
    }

    #[test]
    fn the_end_of_the_log_is_not_told_twice() {
        let mut goal = goal("a", BuildStatus::PermanentFailure, "failed;\nlast 1 log lines:\n> x");
        goal.result.log_tail = vec!["x".into()];
        assert_eq!(FinalReport::new([goal]).render(LogsShown::No, false).matches("> x").count(), 1);
    }

    #[test]
    fn long_lists_are_cut() {
        let goals = (0..30).map(|n| goal(&format!("p{n}"), BuildStatus::DependencyFailed, ""));
        let text = FinalReport::new(goals).render(LogsShown::No, false);
        assert!(
            text.starts_with("could not be built because of their dependencies: 30 derivations\n  p0, "),
            "{text}"
        );
        assert!(text.ends_with("p19 and 10 more\n"), "{text}");
    }

    #[test]
    fn without_failures_there_is_nothing_to_say() {
        let report = FinalReport::new([goal("a", BuildStatus::AlreadyValid, "")]);
        assert!(report.is_empty());
        assert_eq!(report.render(LogsShown::No, true), "");
        let silent = FinalReport::new([goal("a", BuildStatus::MiscFailure, "")]);
        assert_eq!(silent.render(LogsShown::No, false), "error: a: failed (MiscFailure)\n");
    }
}
