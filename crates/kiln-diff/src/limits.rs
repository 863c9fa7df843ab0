//! What a comparison may cost.

/// What a comparison may cost, and how much it tells. Whatever a limit leaves out is counted or said in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most differences listed; the others are counted.
    pub differences: usize,
    /// The most directories in each other that are compared.
    pub depth: usize,
    /// The most names of entries held at a time: those of both directories being compared and of all that they are in.
    /// A pair of directories that has more isn't compared.
    pub entries: usize,
    /// The most entries counted below a directory that is in one tree only.
    pub entries_below: u64,
    /// The most bytes of a file compared after the first that differs, to say how much differs.
    pub bytes_after_difference: u64,
    /// The most bytes of a pair of files read again to recognise what differs. Small files get less: a few times their
    /// size, so that the time stays linear in the data.
    pub bytes_examined: u64,
    /// The most members of an archive, or sections of a program, looked at.
    pub parts: usize,
    /// The most findings told about one file; the others are counted.
    pub findings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            differences: 1000,
            depth: kiln_nar::MAX_DEPTH,
            entries: 1 << 20,
            entries_below: 100_000,
            bytes_after_difference: 64 << 20,
            bytes_examined: 256 << 20,
            parts: 16 << 10,
            findings: 16,
        }
    }
}
