//! The launcher as a program of its own, for embedders whose `main` can't begin with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln_sandbox::run_if_launcher(run_builtin);
    eprintln!(
        "error: this program is started by an engine, with the argument '{}'",
        kiln_sandbox::LAUNCHER_ARGUMENT
    );
    ExitCode::FAILURE
}

/// This program has none: it tells what it would run.
fn run_builtin(call: &kiln_sandbox::BuiltinCall) -> u8 {
    for (name, value) in &call.environment {
        println!("{name}={value}");
    }
    // The one that reads the directory is among them.
    let open =
        std::fs::read_dir("/proc/self/fd").map_or(0, |descriptors| descriptors.count().saturating_sub(1));
    println!("descriptors {open}");
    println!("error: unsupported builtin '{}' with '{}'", call.builder, call.input);
    1
}
