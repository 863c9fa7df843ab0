//! The launcher as a program of its own, for embedders whose `main` can't begin with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln_sandbox::run_if_launcher();
    eprintln!(
        "error: this program is started by an engine, with the argument '{}'",
        kiln_sandbox::LAUNCHER_ARGUMENT
    );
    ExitCode::FAILURE
}
