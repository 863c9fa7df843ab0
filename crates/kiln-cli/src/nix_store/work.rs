//! What an operation works with.

use clap::ArgMatches;
use kiln_build::Engine;

use super::NAME;
use super::command_line::CommandLine;
use crate::any_store::AnyStore;
use crate::builder::Builder;
use crate::command_line;
use crate::environment::Environment;
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::invocation::Invocation;
use crate::output;
use crate::session::Session;
use crate::terminal::Terminal;

/// One run of one operation.
pub(super) struct Work<'a> {
    /// What was asked for.
    pub(super) line: &'a CommandLine,
    /// Where to tell what happens.
    pub(super) terminal: &'a Terminal,
    environment: &'a Environment,
    /// Clap has seen nothing of the line.
    matches: ArgMatches,
}

impl<'a> Work<'a> {
    pub(super) fn new(line: &'a CommandLine, environment: &'a Environment, terminal: &'a Terminal) -> Self {
        Self { line, terminal, environment, matches: ArgMatches::default() }
    }

    /// The run as what looks for settings and stores knows it.
    pub(super) fn invocation(&self) -> Invocation<'_> {
        Invocation {
            environment: self.environment,
            global: &self.line.global,
            matches: &self.matches,
            terminal: self.terminal,
        }
    }

    /// Opens the store.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        Session::open(&self.invocation())
    }

    /// Opens the store, or has its daemon at hand.
    pub(super) fn any_session(&self) -> Result<Session<AnyStore>, Failure> {
        Session::open_any(&self.invocation())
    }

    /// Who builds.
    pub(super) fn builder(&self, session: &Session<AnyStore>) -> Result<Builder, Failure> {
        session.builder(&self.invocation())
    }

    /// Starts the engine.
    pub(super) fn engine(&self, session: &Session) -> Result<Engine, Failure> {
        session.engine(&self.invocation())
    }

    /// Prints a part of the result.
    pub(super) fn print(&self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        output::print(text)
    }

    /// Prints the result after all that was told; only errors can be told from then on.
    pub(super) fn print_at_last(&self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.terminal.finish();
        output::print(text)
    }

    /// `--version`.
    pub(super) fn version(&self) -> Result<u8, Failure> {
        Ok(command_line::nix_version(self.environment, NAME))
    }

    /// `--help`.
    pub(super) fn help(&self) -> Result<u8, Failure> {
        Ok(command_line::help_of(NAME))
    }

    /// The exit code of what has come out well or not.
    pub(super) fn exit_code(is_good: bool) -> u8 {
        if is_good { 0 } else { GENERAL_EXIT_CODE }
    }
}
