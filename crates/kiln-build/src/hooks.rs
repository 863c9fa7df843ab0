//! Programs of the user that are run in the course of a build. They are the user's own, with the user's environment.

mod diff;
mod post_build;
mod pre_build;
mod run;

pub(crate) use diff::{Differing, diff_hook};
pub(crate) use post_build::post_build_hook;
pub(crate) use pre_build::pre_build_hook;
