//! What comes of a build on the build hook, on two ways: the builder's own bytes, and the hook's records.
//!
//! A machine that is reached by a protocol that knows activities tells of the builder's lines and phases in records. They
//! are put into the stored log as if the builder had written them here. Such a machine also tells that it builds: what it
//! says of the very build that is followed here, is said of this build's own activity, and its counters, which count the
//! same once more, are left out.

use kiln_events::{
    Activity, ActivityResult, BuilderActivities, BuilderRecord, RecordSource, Text, Verbosity,
};

use super::builder_log::{BuilderLog, LogEnd};

/// The log of a build on the hook.
#[derive(Debug)]
pub(crate) struct HookLog {
    log: BuilderLog,
    records: BuilderActivities,
    /// The derivation's full path.
    derivation: Text,
    /// What the machine calls this build.
    there: Option<u64>,
}

impl HookLog {
    /// For the build of a derivation, given by its full path.
    pub(crate) fn new(log: BuilderLog, derivation: Text) -> Self {
        let activity = log.activity();
        let records =
            BuilderActivities::new(activity.sender().clone(), activity.id(), RecordSource::BuildHook);
        Self { log, records, derivation, there: None }
    }

    /// Takes in what the builder wrote. Never waits.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.log.write(bytes);
    }

    /// Takes in a line of the hook itself, and says how many bytes of it are the builder's. Lines that are no records go
    /// nowhere, but for those who look for faults.
    pub(crate) fn message(&mut self, line: &[u8]) -> usize {
        match BuilderRecord::parse(line) {
            Some(Ok(record)) => self.record(record),
            Some(Err(_)) | None => {
                self.log.activity().sender().message(Verbosity::Debug, line.to_vec());
                0
            }
        }
    }

    fn record(&mut self, record: BuilderRecord) -> usize {
        match record {
            BuilderRecord::Start { activity: Activity::Realise | Activity::Builds, .. } => 0,
            BuilderRecord::Start { id, activity: Activity::Build { drv, .. }, .. }
                if drv == self.derivation =>
            {
                self.there = Some(id);
                0
            }
            BuilderRecord::Result { id, result: Some(result) } => {
                let bytes = self.store(&result);
                if self.there == Some(id) {
                    self.log.activity().result(result);
                } else {
                    self.records.apply(BuilderRecord::Result { id, result: Some(result) });
                }
                bytes
            }
            BuilderRecord::Stop { id } if self.there == Some(id) => {
                self.there = None;
                0
            }
            other => {
                self.records.apply(other);
                0
            }
        }
    }

    /// Puts into the stored log what the builder must have written for a result to be told.
    fn store(&mut self, result: &ActivityResult) -> usize {
        match result {
            ActivityResult::BuildLogLine(line) => self.log.store_line(line.as_bytes()),
            ActivityResult::SetPhase(phase) => self.log.store_phase(phase),
            _ => 0,
        }
    }

    /// Ends the log, which is then stored while other things go on.
    pub(crate) fn finish(self) -> LogEnd {
        self.log.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_events::{ActivityId, CollectingSink, Event, EventSender};
    use kiln_settings::{Machine, Settings};
    use std::sync::Arc;

    /// What the hook of Nix 2.34.8 said of a build by ssh-ng.
    const RECORDED: &[u8] = include_bytes!("../build_hook/data/nix-2.34.8-says");
    const DERIVATION: &str = "/nix/store/z9lb5hicshds1b1yrn354x3h30nird3k-a-31.drv";

    #[tokio::test]
    async fn l3_what_a_machine_tells_of_a_build_is_told_of_this_build() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let sink = Arc::new(CollectingSink::new());
        let sender = EventSender::with_first_id(sink.clone(), 100);
        let build = Activity::Build { drv: DERIVATION.into(), machine: Some("ssh-ng://m".into()) };
        let activity = sender.start(ActivityId::NONE, Verbosity::Info, build);
        let own = activity.id();
        let mut settings = Settings::defaults(&Machine::plain("x86_64-linux"));
        settings.compress_build_log = false;
        let mut log = HookLog::new(BuilderLog::new(&settings, activity, path.clone()), DERIVATION.into());
        let bytes: usize = RECORDED.split(|byte| *byte == b'\n').map(|line| log.message(line)).sum();
        let end = log.finish();
        end.stored.unwrap().await.unwrap();
        let stored = std::fs::read_to_string(path).unwrap();
        assert_eq!(stored, "building a\n@nix {\"action\":\"setPhase\",\"phase\":\"buildPhase\"}\n");
        assert_eq!((bytes, end.tail), (stored.len(), vec!["building a".into()]));
        let events = sink.take();
        let of_build: Vec<&ActivityResult> = events
            .iter()
            .filter_map(|event| match event {
                Event::Result { id, result } if *id == own => Some(result),
                _ => None,
            })
            .collect();
        let expected = [
            ActivityResult::BuildLogLine("building a".into()),
            ActivityResult::SetPhase("buildPhase".into()),
        ];
        assert_eq!(of_build, expected.iter().collect::<Vec<_>>());
        let count = |is: fn(&Activity) -> bool| {
            let starts =
                events.iter().filter(|event| matches!(event, Event::Start { activity, .. } if is(activity)));
            starts.count()
        };
        assert_eq!(count(|activity| matches!(activity, Activity::Build { .. })), 1);
        assert_eq!(count(|activity| matches!(activity, Activity::Builds | Activity::Realise)), 0);
        assert_eq!(count(|activity| matches!(activity, Activity::CopyPath { .. })), 1);
        let starts = count(|_| true);
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Stop { .. })).count(), starts);
    }
}
