//! Runs the real program, each time in a fresh directory with an environment of its own.

mod config;
mod hash;
mod help;
mod peer;
mod scratch;
