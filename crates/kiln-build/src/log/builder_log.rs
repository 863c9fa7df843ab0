//! Everything that is made of a builder's output.

use std::path::PathBuf;

use kiln_events::{
    ActivityGuard, ActivityResult, BuilderActivities, Handling, LogLines, LogTail, RecordSource, Text,
    Verbosity,
};
use kiln_settings::Settings;
use tokio::task::JoinHandle;

use super::file::LogFile;

/// The tail of a log is kept to these many bytes, however long its lines are; the longest one fits.
const TAIL_BYTES: usize = 128 << 10;

/// The log of one round of a build.
#[derive(Debug)]
pub(crate) struct BuilderLog {
    lines: LogLines,
    told: Told,
    file: Option<LogFile>,
}

/// Who is told about lines.
#[derive(Debug)]
struct Told {
    activity: ActivityGuard,
    records: BuilderActivities,
    tail: LogTail,
    /// Lines go to the file and the tail only.
    is_quiet: bool,
}

/// What is left of a log.
#[derive(Debug)]
pub(crate) struct LogEnd {
    /// The last lines.
    pub(crate) tail: Vec<Text>,
    /// Ends when the log is stored.
    pub(crate) stored: Option<JoinHandle<()>>,
}

impl BuilderLog {
    /// A log whose lines are told on `activity`, and stored at `path` if the settings say so.
    pub(crate) fn new(settings: &Settings, activity: ActivityGuard, path: PathBuf) -> Self {
        let records = BuilderActivities::new(activity.sender().clone(), activity.id(), RecordSource::Builder);
        let tail = LogTail::new(usize::try_from(settings.log_lines).unwrap_or(usize::MAX), TAIL_BYTES);
        Self {
            lines: LogLines::new(),
            told: Told { activity, records, tail, is_quiet: false },
            file: settings.keep_build_log.then(|| LogFile::new(path, settings.compress_build_log)),
        }
    }

    /// The same, with lines that nobody is told unless the build fails.
    pub(crate) fn quiet(mut self) -> Self {
        self.told.is_quiet = true;
        self
    }

    /// Takes in what the builder wrote. Never waits.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            file.write(bytes);
        }
        self.lines.push(bytes, |line| self.told.line(line));
    }

    /// Waits until it is worth reading more of what the builder writes.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + use<> {
        let room = self.file.as_ref().map(LogFile::room);
        async move {
            if let Some(room) = room {
                room.await;
            }
        }
    }

    /// Takes in a line that others tell of: into the stored log and the tail. Says how many bytes were stored.
    pub(super) fn store_line(&mut self, line: &[u8]) -> usize {
        if let Some(file) = &mut self.file {
            file.write(line);
            file.write(b"\n");
        }
        self.told.tail.push(line);
        line.len().saturating_add(1)
    }

    /// Takes in a phase that others tell of: into the stored log, as builders write it.
    pub(super) fn store_phase(&mut self, phase: &Text) -> usize {
        let record = serde_json::json!({ "action": "setPhase", "phase": phase.to_str_lossy() });
        let line = format!("@nix {record}\n");
        if let Some(file) = &mut self.file {
            file.write(line.as_bytes());
        }
        line.len()
    }

    /// The build's activity.
    pub(super) fn activity(&self) -> &ActivityGuard {
        &self.told.activity
    }

    /// Ends the log, which is then stored while the build goes on. That it can't be is said, and no reason to fail a build.
    pub(crate) fn finish(mut self) -> LogEnd {
        self.lines.finish(|line| self.told.line(line));
        let tail = self.told.tail.lines().cloned().collect();
        let events = self.told.activity.sender().clone();
        let stored = self.file.map(|file| {
            tokio::spawn(async move {
                if let Err(error) = file.finish().await {
                    events.warn(format!("the build log cannot be stored: {error}"));
                }
            })
        });
        LogEnd { tail, stored }
    }
}

impl Told {
    fn line(&mut self, line: &[u8]) {
        match self.records.handle(line) {
            Handling::Handled => return,
            Handling::LogLine => {}
            Handling::Malformed(error) => {
                let message = format!("from the derivation builder: {error}");
                self.activity.sender().message(Verbosity::Warn, message);
            }
        }
        self.tail.push(line);
        if !self.is_quiet {
            self.activity.result(ActivityResult::BuildLogLine(line.into()));
        }
    }
}
