//! Conversations with daemons that are not what they should be: hostile, broken, or old.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod hostile;
mod made_up;
mod old;
