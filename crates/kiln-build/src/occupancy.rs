//! Who has slots, and who waits for one.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_schedule::{SlotUse, UserId};
use kiln_substitute::HealthReport;

use crate::engine::Engine;
use crate::figures::{Figures, merged};

/// What the slots of an engine are used for now.
#[derive(Clone, Debug)]
pub struct Occupancy {
    /// Slots for builds on this machine.
    pub builds: SlotUse,
    /// Slots for substitutions.
    pub substitutions: SlotUse,
    /// What waits for a slot, the first as many as were asked for; who has waited longest comes first.
    pub waiting: Vec<WaitingJob>,
}

/// A job that waits for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingJob {
    /// Base name of the derivation, or of the path to be substituted.
    pub path: String,
    /// Whether it is a build; otherwise it is a substitution.
    pub is_build: bool,
    /// For whom it was begun.
    pub user: UserId,
    /// For how long it has waited.
    pub waited: Duration,
}

impl Engine {
    /// What has been counted, for all clients.
    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// How the slots are used now, with at most so many of the jobs that wait.
    pub fn occupancy(&self, most_waiting: usize) -> Occupancy {
        self.shared.slot_pool.occupancy(most_waiting)
    }

    /// How the substituters fare that clients which are there, or goals of theirs, have asked.
    pub fn substituters_health(&self) -> BTreeMap<String, HealthReport> {
        merged(self.shared.profiles.substituters_health())
    }
}
