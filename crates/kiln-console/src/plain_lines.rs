//! Events as lines that stay: in a log, or above the status lines of a terminal.

use kiln_events::{
    Activity, ActivityId, ActivityResult, Colours, Event, Message, Prefix, Text, Verbosity, safe_line,
    safe_text,
};

use crate::log_format::LogFormat;
use crate::names::package_name;
use crate::renderer::Options;
use crate::state::ConsoleState;
use crate::style::Style;

/// The lines that an event gives, each with its newline; nothing for those that only change the status.
///
/// `state` knows the activities that run, which log lines get their names from.
pub(crate) fn plain_lines(event: &Event, state: &ConsoleState, options: &Options) -> String {
    match event {
        Event::Message { level, message } if *level <= options.verbosity => {
            ended(&journal(*level, &message_text(*level, message, options), options))
        }
        Event::Start { level, activity, text, .. }
            if *level <= options.verbosity
                && !text.is_empty()
                && !matches!(activity, Activity::BuildWaiting { .. }) =>
        {
            ended(&journal(*level, &format!("{}...", safe(text, options)), options))
        }
        Event::Result { id, result: ActivityResult::BuildLogLine(line) } if options.format.shows_logs() => {
            log_line(state, *id, line, "", "", options)
        }
        Event::Result { id, result: ActivityResult::PostBuildLogLine(line) }
            if options.format.shows_logs() =>
        {
            log_line(state, *id, line, " (post)", "post-build-hook: ", options)
        }
        _ => String::new(),
    }
}

fn message_text(level: Verbosity, message: &Message, options: &Options) -> String {
    match message {
        Message::Text(text) => safe(text, options),
        Message::Report(report) => {
            let prefix = if level == Verbosity::Error { Prefix::Error } else { Prefix::Warning };
            safe(&report.render(prefix, options.show_trace), options)
        }
    }
}

/// A line of a build's log: as it is, or with the name of the build before it.
fn log_line(
    state: &ConsoleState,
    id: ActivityId,
    line: &Text,
    name_suffix: &str,
    raw_prefix: &str,
    options: &Options,
) -> String {
    let line = safe_line(line.as_bytes(), colours(options));
    if !options.format.has_status() {
        return ended(&journal(Verbosity::Info, &format!("{raw_prefix}{line}"), options));
    }
    let drv = state.get(id).map(|running| &running.activity).and_then(|activity| match activity {
        Activity::Build { drv, .. } | Activity::PostBuildHook { drv } => Some(drv.to_str_lossy()),
        _ => None,
    });
    let name = safe_line(drv.as_deref().map_or("unnamed", package_name).as_bytes(), Colours::Strip);
    let name = Style::Bold.paint(options.presentation.colours, &format!("{name}{name_suffix}>"));
    ended(&format!("{name} {line}"))
}

fn colours(options: &Options) -> Colours {
    if options.presentation.colours { Colours::Keep } else { Colours::Strip }
}

fn safe(text: &Text, options: &Options) -> String {
    safe_text(text.as_bytes(), colours(options))
}

/// With the level before each line, where it goes to systemd's journal.
fn journal(level: Verbosity, text: &str, options: &Options) -> String {
    let raw = matches!(options.format, LogFormat::Raw | LogFormat::RawWithLogs);
    if !raw || !options.presentation.is_journal {
        return text.to_owned();
    }
    let priority = match level {
        Verbosity::Error => 3,
        Verbosity::Warn => 4,
        Verbosity::Notice | Verbosity::Info => 5,
        Verbosity::Talkative | Verbosity::Chatty => 6,
        Verbosity::Debug | Verbosity::Vomit => 7,
    };
    let lines: Vec<String> = text.split('\n').map(|line| format!("<{priority}>{line}")).collect();
    lines.join("\n")
}

fn ended(text: &str) -> String {
    format!("{text}\n")
}
