//! A builder's output, from bytes to lines, activities, the tail of an error message, and the stored log.

mod builder_log;
mod file;
mod hook_log;

pub(crate) use builder_log::BuilderLog;
pub(crate) use hook_log::HookLog;
