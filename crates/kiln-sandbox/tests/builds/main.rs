//! Builds that really run: in namespaces, with the filter, as build users, under a launcher of their own.
//!
//! The builder is a small static C program (`tests/programs/builder.c`), compiled by the host's `cc`, that does what its
//! arguments say and prints what came of it. The tests run as root and as an ordinary user; what differs is said in each.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod denied;
mod endings;
mod launching;
mod machine;
mod networks;
mod set_up;
mod spare;
mod support;
mod unsandboxed;
mod world;
