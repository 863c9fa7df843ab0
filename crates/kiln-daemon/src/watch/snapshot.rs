//! The status of the daemon, put together when somebody asks.

use std::collections::BTreeMap;

use kiln_build::{Engine, SlotUse};
use kiln_events::{ActivityId, quoted};
use kiln_substitute::Condition;

use super::watched::Work;
use super::{Watch, now};
use crate::status::{QueuedStatus, SlotStatus, Status, SubstituterStatus, WorkStatus};

/// Jobs that wait of which more is told than their number.
const MOST_QUEUED: usize = 200;

impl Watch {
    /// What the daemon does now.
    pub(super) fn status(&self, engine: &Engine) -> Status {
        let now = now();
        let connections = self.connections();
        let mut work: BTreeMap<ActivityId, WorkStatus> = BTreeMap::new();
        for connection in &connections {
            for (id, found) in connection.work() {
                let known = work.entry(id).or_insert_with(|| shown(id, &found));
                known.since = known.since.min(found.since);
                known.connections.push(connection.id());
            }
        }
        let occupancy = engine.occupancy(MOST_QUEUED);
        let queue = occupancy.waiting.into_iter().map(|job| QueuedStatus {
            path: quoted(job.path.as_bytes()),
            is_build: job.is_build,
            uid: job.user.0,
            since: now.saturating_sub(job.waited.as_secs()),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            store_dir: quoted(engine.store().store_dir().as_str().as_bytes()),
            now,
            started: self.started,
            build_slots: slots(occupancy.builds),
            substitution_slots: slots(occupancy.substitutions),
            connections: connections.iter().map(|connection| connection.status()).collect(),
            work: work.into_values().collect(),
            queue: queue.collect(),
            substituters: substituters(engine),
        }
    }
}

fn slots(slots: SlotUse) -> SlotStatus {
    let SlotUse { used, total, waiting } = slots;
    SlotStatus { used, total, waiting }
}

fn shown(id: ActivityId, work: &Work) -> WorkStatus {
    let text = |text: &kiln_events::Text| quoted(text.as_bytes());
    WorkStatus {
        id: id.0,
        kind: work.kind,
        path: text(&work.path),
        place: work.place.as_ref().map(text),
        since: work.since,
        phase: work.phase.as_ref().map(text),
        last_line: work.last_line.as_deref().map(quoted),
        bytes: work.bytes,
        connections: Vec::new(),
    }
}

fn substituters(engine: &Engine) -> Vec<SubstituterStatus> {
    let reports = engine.substituters_health().into_iter().map(|(url, report)| SubstituterStatus {
        url: quoted(url.as_bytes()),
        is_well: report.condition == Condition::Well,
        answers: report.answers,
        failures: report.failures,
        last_failure: report.last_failure.map(|failure| quoted(failure.as_bytes())),
    });
    reports.collect()
}
