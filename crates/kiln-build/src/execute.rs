//! From a plan to the end of its builder.

mod failure;
mod keep;
mod supervise;
mod workspace;

pub(crate) use failure::{Ending, LOW_DISK_SPACE, builder_failure};
pub(crate) use supervise::{Execution, SuperviseError, watched};
pub(crate) use workspace::{Directories, Workspace};
