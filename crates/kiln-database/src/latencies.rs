//! How long the database takes, for those who watch over it.

use kiln_metrics::Histogram;

/// How long uses of a database have taken since it was opened.
#[derive(Debug)]
pub struct Latencies {
    /// From asking for a connection that reads to giving it back.
    pub reads: Histogram,
    /// From handing over a change to the end of its transaction.
    pub writes: Histogram,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { reads: Histogram::of_short(), writes: Histogram::of_short() }
    }
}
