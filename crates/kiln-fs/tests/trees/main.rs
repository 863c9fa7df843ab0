//! Operations on real trees, made by friends and by foes. Run as root they test more, and they say what they skip otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

mod archives;
mod attacks;
mod canonical;
mod deletion;
mod directories;
mod link_pool;
mod locks;
mod rewrite;
mod scratch;
mod temp_roots;
