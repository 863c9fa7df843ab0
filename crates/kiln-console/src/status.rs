//! The status lines at the bottom of a terminal.

use std::time::Duration;

use kiln_events::{Activity, ActivityType, Colours, Text, Verbosity, safe_line};

use crate::names::derivation_name;
use crate::presentation::WindowSize;
use crate::state::{ConsoleState, RunningActivity};
use crate::style::Style;
use crate::terminal_width::fit;
use crate::units::{duration, mebibytes};

/// The share of the window that status lines may take.
const SHARE: usize = 3;

/// How far up the parents of an activity are looked at; real ones are not nested deeper.
const MAX_NESTING: usize = 8;

/// The status lines for a window: one for each thing that goes on, oldest first, and a summary at the end. None if
/// nothing goes on.
///
/// Each line fits the width; together they take at most a third of the height, but the summary is always there.
#[must_use]
pub fn status_lines(
    state: &ConsoleState,
    verbosity: Verbosity,
    window: WindowSize,
    now: Duration,
    colours: bool,
) -> Vec<String> {
    if state.is_idle() {
        return Vec::new();
    }
    // The last column stays free: some terminals wrap a line that fills it.
    let columns = window.width.saturating_sub(1);
    let room = (window.height / SHARE).saturating_sub(1);
    let shown: Vec<&RunningActivity> =
        state.running().filter(|running| is_shown(state, running, verbosity)).collect();
    // If not all fit, one line says how many don't.
    let kept = if shown.len() <= room { shown.len() } else { room.saturating_sub(1) };
    let mut lines: Vec<String> =
        shown.iter().take(kept).map(|running| fit(&activity_line(running, now, colours), columns)).collect();
    if kept < shown.len() && room > 0 {
        let more = format!("  … and {} more", shown.len() - kept);
        lines.push(fit(&Style::Dim.paint(colours, &more), columns));
    }
    lines.push(fit(&summary(state, now, colours), columns));
    lines
}

/// Whether an activity gets a line of its own: not those that only count, and none that is part of another's line.
fn is_shown(state: &ConsoleState, running: &RunningActivity, verbosity: Verbosity) -> bool {
    match &running.activity {
        Activity::Build { .. } | Activity::CopyPath { .. } | Activity::PostBuildHook { .. } => true,
        Activity::FileTransfer { .. } => !has_ancestor(state, running, |activity| {
            matches!(activity, Activity::CopyPath { .. } | Activity::QueryPathInfo { .. })
        }),
        Activity::Realise | Activity::CopyPaths | Activity::Builds | Activity::Substitute { .. } => false,
        _ => running.level <= verbosity && !running.text.is_empty(),
    }
}

fn has_ancestor(state: &ConsoleState, running: &RunningActivity, is: impl Fn(&Activity) -> bool) -> bool {
    let ancestors = std::iter::successors(state.get(running.parent), |ancestor| state.get(ancestor.parent));
    ancestors.take(MAX_NESTING).any(|ancestor| is(&ancestor.activity))
}

fn activity_line(running: &RunningActivity, now: Duration, colours: bool) -> String {
    let time = Style::Dim.paint(colours, &duration(now.saturating_sub(running.started)));
    let name =
        |path: &Text| Style::Bold.paint(colours, &shown(derivation_name(&path.to_str_lossy()).as_bytes()));
    let mut parts = vec![match &running.activity {
        Activity::Build { drv, machine: None } => name(drv),
        Activity::Build { drv, machine: Some(machine) } => {
            format!("{} on {}", name(drv), shown(machine.as_bytes()))
        }
        Activity::CopyPath { path, .. } => format!("copying {}", name(path)),
        Activity::PostBuildHook { drv } => format!("{} (post)", name(drv)),
        _ => shown(running.text.as_bytes()),
    }];
    parts.push(time);
    if matches!(running.activity, Activity::CopyPath { .. } | Activity::FileTransfer { .. }) {
        parts.extend(transferred(running.progress()));
    }
    parts.extend(running.phase.as_ref().map(|phase| Style::Blue.paint(colours, &shown(phase.as_bytes()))));
    parts.extend(running.last_line.as_ref().map(|line| shown(line.as_bytes())));
    format!("  {}", parts.join("  "))
}

/// Bytes of a transfer, if any are known.
fn transferred((done, expected): (u64, u64)) -> Option<String> {
    match expected {
        0 if done == 0 => None,
        0 => Some(format!("{} MiB", mebibytes(done))),
        _ => Some(format!("{}/{} MiB", mebibytes(done), mebibytes(expected))),
    }
}

/// What all builds and copies amount to, and the time.
fn summary(state: &ConsoleState, now: Duration, colours: bool) -> String {
    // The time comes first: in a narrow window the end is cut off.
    let mut parts = vec![duration(state.elapsed(now))];
    let builds = state.totals(ActivityType::BUILDS);
    if builds.expected > 0 || builds.failed > 0 {
        let mut counts = vec![Style::Green.paint(colours, &format!("{} built", builds.done))];
        let mut add = |number: u64, what: &str| {
            if number > 0 {
                counts.push(format!("{number} {what}"));
            }
        };
        add(builds.running, "running");
        add(builds.waiting(), "waiting");
        if builds.failed > 0 {
            counts.push(Style::Red.paint(colours, &format!("{} failed", builds.failed)));
        }
        parts.push(counts.join(", "));
    }
    let copies = state.totals(ActivityType::COPY_PATHS);
    if copies.expected > 0 {
        let bytes = state.totals(ActivityType::COPY_PATH);
        let bytes =
            transferred((bytes.done, bytes.expected)).map_or_else(String::new, |bytes| format!(" ({bytes})"));
        parts.push(format!("{}/{} copied{bytes}", copies.done, copies.expected));
    }
    let downloads = state.totals(ActivityType::FILE_TRANSFER);
    parts
        .extend(transferred((downloads.done, downloads.expected)).map(|bytes| format!("{bytes} downloaded")));
    format!("[{}]", parts.join(" | "))
}

/// Foreign text, safe and without colours of its own.
fn shown(text: &[u8]) -> String {
    safe_line(text, Colours::Strip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_events::{ActivityId, ActivityResult, Event};
    use proptest::prelude::*;

    const WIDE: WindowSize = WindowSize { width: 120, height: 30 };

    struct Scene(ConsoleState);

    impl Scene {
        fn new() -> Scene {
            let mut scene = Scene(ConsoleState::new());
            scene.start(1, 0, Activity::Realise);
            scene.start(2, 0, Activity::Builds);
            scene.start(3, 0, Activity::CopyPaths);
            scene
        }

        fn start(&mut self, id: u64, parent: u64, activity: Activity) {
            let (parent, level) = (ActivityId(parent), Verbosity::Info);
            let text = activity.default_text();
            let event = Event::Start { id: ActivityId(id), parent, level, activity, text };
            self.0.apply(&event, Duration::from_secs(id));
        }

        fn build(&mut self, id: u64, name: &str) {
            let drv = format!("/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-{name}.drv").into();
            self.start(id, 1, Activity::Build { drv, machine: None });
        }

        fn report(&mut self, id: u64, result: ActivityResult) {
            self.0.apply(&Event::Result { id: ActivityId(id), result }, Duration::ZERO);
        }

        fn progress(&mut self, id: u64, [done, expected, running, failed]: [u64; 4]) {
            self.report(id, ActivityResult::Progress { done, expected, running, failed });
        }

        fn lines(&self, window: WindowSize) -> Vec<String> {
            status_lines(&self.0, Verbosity::Info, window, Duration::from_secs(75), false)
        }
    }

    #[test]
    fn builds_and_copies() {
        let mut scene = Scene::new();
        scene.build(10, "hello-2.12");
        scene.build(15, "gcc-13.2.0");
        scene.report(10, ActivityResult::SetPhase("buildPhase".into()));
        scene.report(10, ActivityResult::BuildLogLine("\x1b[31mcc\x1b[0m -c\thello.c\x07".into()));
        let path: Text = "/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-zlib-1.3".into();
        scene.start(70, 1, Activity::Substitute { path: path.clone(), substituter: "https://c".into() });
        let copy = Activity::CopyPath { path, source: "https://c".into(), destination: "local".into() };
        scene.start(71, 70, copy);
        scene.start(72, 71, Activity::FileTransfer { url: "https://c/x.nar".into() });
        scene.progress(71, [3 << 20, 10 << 20, 0, 0]);
        scene.progress(72, [1 << 20, 4 << 20, 0, 0]);
        scene.progress(2, [3, 12, 2, 1]);
        scene.progress(3, [0, 5, 1, 0]);
        assert_eq!(
            scene.lines(WIDE),
            [
                "  hello-2.12  1m05s  buildPhase  cc -c hello.c",
                "  gcc-13.2.0  1m00s",
                "  copying zlib-1.3  4s  3.0/10.0 MiB",
                "[1m14s | 3 built, 2 running, 6 waiting, 1 failed | 0/5 copied (3.0/10.0 MiB) | 1.0/4.0 MiB downloaded]",
            ]
        );
        assert_eq!(scene.lines(WindowSize { width: 30, height: 30 })[0], "  hello-2.12  1m05s  buildPh…");
    }

    #[test]
    fn colours_are_ours_only() {
        let mut scene = Scene::new();
        scene.build(10, "a-1");
        scene.report(10, ActivityResult::BuildLogLine("\x1b[31mred".into()));
        let lines = status_lines(&scene.0, Verbosity::Info, WIDE, Duration::from_secs(10), true);
        assert_eq!(lines[0], "  \x1b[1ma-1\x1b[0m  \x1b[2m0s\x1b[0m  red");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut scene = Scene::new();
        (10..30).for_each(|id| scene.build(id, &format!("p{id}-1")));
        let lines = scene.lines(WindowSize { width: 40, height: 12 });
        assert_eq!(lines, ["  p10-1  1m05s", "  p11-1  1m04s", "  … and 18 more", "[1m14s]"]);
        assert_eq!(scene.lines(WindowSize { width: 40, height: 3 }), ["[1m14s]"]);
    }

    #[test]
    fn nothing_goes_on() {
        assert!(status_lines(&ConsoleState::new(), Verbosity::Info, WIDE, Duration::ZERO, true).is_empty());
    }

    #[test]
    fn waiting_is_shown_if_it_matters() {
        let mut scene = Scene::new();
        let event = |id, level, text: &str| Event::Start {
            id: ActivityId(id),
            parent: ActivityId::NONE,
            level,
            activity: Activity::BuildWaiting { resolved: None },
            text: text.into(),
        };
        scene
            .0
            .apply(&event(8, Verbosity::Info, "waiting for a machine to build 'x'"), Duration::from_secs(70));
        scene.0.apply(&event(9, Verbosity::Debug, "waiting for a lock"), Duration::from_secs(70));
        assert_eq!(scene.lines(WIDE), ["  waiting for a machine to build 'x'  5s", "[1m14s]"]);
    }

    proptest! {
        #[test]
        fn it_always_fits(width in 0usize..60, height in 0usize..20, builds in 0u64..20, line in ".{0,80}") {
            let mut scene = Scene::new();
            (10..10 + builds).for_each(|id| {
                scene.build(id, "日本語-1");
                scene.report(id, ActivityResult::BuildLogLine(line.as_str().into()));
            });
            let lines = scene.lines(WindowSize { width, height });
            prop_assert!(lines.len() <= (height / SHARE).max(1));
            for line in lines {
                prop_assert!(crate::terminal_width::width(&line) < width.max(1), "{:?}", line);
                prop_assert!(!line.contains(|c: char| c.is_control()));
            }
        }
    }
}
