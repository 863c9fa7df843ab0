//! The `kiln` program: glue between a person at a command line and the crates that do the work.
//!
//! A run goes one way: the [environment](environment) is read once into a value; the command line is matched against
//! the one [table of commands](commands); the command found runs with an [`Invocation`](invocation::Invocation) that
//! holds all it may use; and what it returns becomes an exit code. Results go to standard output and nothing else does;
//! plans, progress and errors go to standard error, errors through [`failure`] alone.

mod any_store;
mod build_hook;
mod builder;
mod calendar;
mod command_line;
mod commands;
mod configuration;
mod daemon_store;
mod doctor;
mod ends;
mod environment;
mod failure;
mod interrupt;
mod invocation;
mod json;
mod json_log;
mod machine;
mod nix_store;
mod out_links;
mod output;
mod place;
mod recipes;
mod relay;
mod role;
mod session;
mod store_config;
mod targets;
mod terminal;
mod top;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: no thread may exist when the process that starts builders begins.
    kiln_sandbox::run_if_launcher(kiln_build::run_builtin);
    let environment = environment::Environment::read();
    let code = command_line::run(&environment);
    kiln_store::leave_stores();
    ExitCode::from(code)
}
