//! Comparing what is on the disk with what the database says.

mod contents;
mod presence;

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use kiln_events::{Activity, ActivityId, EventSender, Verbosity};
use kiln_fs::{Access, CollectorLock, Directory};
use kiln_hash::Sha256;
use kiln_store_path::StorePath;

use crate::cancel::{Cancel, cancellable};
use crate::collection::lock_collector;
use crate::error::Result;
use crate::local::LocalStore;

/// What became of a path's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are what they were.
    Good,
    /// They are, as nothing was on record; what they are is now.
    Recorded,
    /// There is nothing on the disk.
    Missing,
    /// They are something else.
    Modified {
        /// The hash on record.
        expected: Sha256,
        /// The hash of what is there.
        found: Sha256,
    },
    /// The path is not valid.
    NotValid,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A valid path was not on the disk, and nothing valid refers to it: it is not valid any more.
    Disappeared(StorePath),
    /// A valid path is not on the disk, and is needed.
    Missing {
        /// The path.
        path: StorePath,
        /// (Some of) what refers to it.
        referrers: Vec<StorePath>,
    },
    /// A path's contents are not what they were.
    Modified {
        /// The path.
        path: StorePath,
        /// The hash on record.
        expected: Sha256,
        /// The hash of what is there.
        found: Sha256,
    },
    /// A path cannot be read.
    Unreadable {
        /// The path.
        path: StorePath,
        /// Why not.
        reason: String,
    },
    /// An entry of the pool of hard links is not what it is called, or cannot be read. The paths that use it are
    /// [`Modified`](Self::Modified).
    CorruptLink {
        /// The entry.
        entry: PathBuf,
    },
}

impl Finding {
    /// The path that it is about.
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Self::Disappeared(path)
            | Self::Missing { path, .. }
            | Self::Modified { path, .. }
            | Self::Unreadable { path, .. } => Some(path),
            Self::CorruptLink { .. } => None,
        }
    }

    /// Whether something is wrong still.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Disappeared(_))
    }
}

/// What a verification has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Valid paths that were looked at.
    pub paths: u64,
    /// What is not as it should be, and was not repaired.
    pub findings: Vec<Finding>,
    /// What was not, and is again.
    pub repaired: Vec<Finding>,
}

/// Makes paths what they were: by building them again, or by getting them from elsewhere.
pub trait Repair: Send + Sync {
    /// Puts the right contents in place of a path's; false if there is no way to get them.
    fn repair<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<bool>>;
}

/// What a verification looks at while no collection runs.
struct Check<'a> {
    store: &'a LocalStore,
    events: &'a EventSender,
    cancel: &'a Cancel,
    /// None of a store that is only read, which nobody collects in.
    state: Option<Directory>,
}

impl LocalStore {
    /// Compares the database with the disk: that each valid path is there, and with `check_contents` also that its contents
    /// are those on record, and that the entries of the pool of hard links are what they are called. What is gone and not needed
    /// is made invalid. What is wrong is handed to `repair`, if there is any. Dropping the future ends it soon.
    ///
    /// # Errors
    /// The database or the store directory cannot be read, or a repair fails.
    pub async fn verify(
        &self,
        check_contents: bool,
        repair: Option<&dyn Repair>,
        events: EventSender,
    ) -> Result<Verified> {
        let store = self.clone();
        let removes_entries = repair.is_some();
        let mut verified = cancellable(move |cancel| {
            let state = match store.config().read_only {
                true => None,
                false => Some(Directory::open(&store.config().locations.state_dir)?),
            };
            let check = Check { store: &store, events: &events, cancel, state };
            let mut verified = check.presence()?;
            if check_contents {
                let activity = events.start(ActivityId::NONE, Verbosity::Info, Activity::VerifyPaths);
                check.pool(removes_entries, &mut verified)?;
                check.contents(&activity, &mut verified)?;
            }
            Ok(verified)
        })
        .await?;
        if let Some(repair) = repair {
            for finding in std::mem::take(&mut verified.findings) {
                let is_repaired = match finding.path() {
                    Some(path) if finding.is_error() => repair.repair(path).await?,
                    _ => false,
                };
                if is_repaired { &mut verified.repaired } else { &mut verified.findings }.push(finding);
            }
        }
        Ok(verified)
    }
}

impl Check<'_> {
    /// Keeps paths from being collected.
    fn lock(&self) -> Result<Option<CollectorLock>> {
        let lock = |state| lock_collector(state, Access::Shared, self.events, self.cancel);
        self.state.as_ref().map(lock).transpose()
    }
}
