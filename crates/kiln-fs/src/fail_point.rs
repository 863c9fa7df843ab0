//! Fail points: the moments at which tests end the process, to see what a crash leaves.
//!
//! A point has a name and a place in the code. A program that was compiled with debug assertions and started with
//! `KILN_FAIL_POINT=<name>`, or `<name>:<count>`, kills itself the first or the `count`th time that it comes there: at once,
//! and without tidying up. Other programs, released ones among them, have none of this.

/// Declares the points in one table.
macro_rules! fail_points {
    ($($(#[$description:meta])+ $point:ident,)+) => {
        /// A moment at which a crash is worth to be looked at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FailPoint {
            $($(#[$description])+ $point,)+
        }

        impl FailPoint {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// What it is called in the environment.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => stringify!($point),)+
                }
            }
        }
    };
}

fail_points! {
    /// The process has a file of temporary roots, with nothing in it.
    TempRootsMade,
    /// Temporary roots have been written.
    TempRootsAdded,
    /// One lock on a path is held.
    PathLocked,
    /// A lock file has lost its name, and whoever waits for it has not been told.
    LockFileRemoved,
    /// A build has its user.
    BuildUserTaken,
    /// A build has its user and its locks, and what was at its outputs is removed.
    TurnTaken,
    /// A build directory has its name, and is not locked yet.
    BuildDirectoryMade,
    /// A build directory is locked and marked, and the builder's part of it is not there yet.
    BuildDirectoryLocked,
    /// The directory of a build beside the store is there, with nothing in it.
    ChrootMade,
    /// The launcher has been asked for a builder.
    BuilderLaunched,
    /// A builder runs.
    BuilderStarted,
    /// A builder has ended, and its log is read.
    BuilderEnded,
    /// A log has its place, with nothing in it.
    LogMade,
    /// A log is stored.
    LogStored,
    /// One output is canonical, hashed and scanned.
    OutputScanned,
    /// One output was rewritten, and still is where it was made.
    OutputRewritten,
    /// One output was rewritten, and what the builder made is deleted.
    OriginalDeleted,
    /// One output is kept beside its path, to be compared.
    OutputKept,
    /// What one round of a builder used is taken away.
    RoundCleared,
    /// One output is at its path.
    OutputMoved,
    /// One output is in the place of a damaged one, which is not deleted yet.
    OutputExchanged,
    /// Paths are complete and about to become valid.
    BeforeTransaction,
    /// Paths have just become valid.
    AfterTransaction,
    /// Which paths content-addressed outputs have is on record.
    RealisationsRecorded,
    /// Content with another hash than a fixed output should have is at the path of its own hash.
    MismatchMoved,
    /// The processes of a build are gone, and all else that it has is still held.
    ProcessesGone,
    /// The directories of a build are taken away, and its locks are held.
    DirectoriesDiscarded,
    /// The locks of a build are released, and its user is held.
    LocksReleased,
    /// A scratch directory in the store has its name, and is not locked yet.
    ScratchMade,
    /// An object is in its scratch directory.
    ObjectMade,
    /// An object is at its path, and not valid yet.
    ObjectMoved,
    /// A scratch directory is about to be deleted.
    ScratchDone,
    /// There is a directory for trash, and it is not locked yet.
    TrashMade,
    /// Something was put into the trash.
    TrashPut,
    /// The trash is about to be deleted.
    TrashEmptied,
}

/// Ends the process if it was started to end here.
#[inline]
pub fn fail_point(point: FailPoint) {
    #[cfg(debug_assertions)]
    armed::pass(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

/// What the environment asks for.
#[cfg(debug_assertions)]
mod armed {
    use super::FailPoint;
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        point: FailPoint,
        /// How often the point may still be passed, this time included.
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> =
        LazyLock::new(|| Armed::parse(std::env::var("KILN_FAIL_POINT").ok()?.as_str()));

    impl Armed {
        fn parse(text: &str) -> Option<Self> {
            let (name, count) = text.split_once(':').unwrap_or((text, "1"));
            let point = FailPoint::ALL.iter().find(|point| point.name() == name)?;
            Some(Self { point: *point, left: AtomicU64::new(count.parse().ok()?) })
        }
    }

    pub(super) fn pass(point: FailPoint) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.point == point) else { return };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // There is no way to fail for it that anybody could be told of.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_named_with_or_without_a_count() {
            let armed = |text| Armed::parse(text).map(|armed| (armed.point, armed.left.into_inner()));
            assert_eq!(armed("OutputMoved"), Some((FailPoint::OutputMoved, 1)));
            assert_eq!(armed("OutputMoved:3"), Some((FailPoint::OutputMoved, 3)));
            assert_eq!(armed("Nowhere"), None);
            assert_eq!(armed("OutputMoved:x"), None);
        }
    }
}
