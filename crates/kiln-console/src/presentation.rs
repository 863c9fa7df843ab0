//! What output goes to.

use std::env;
use std::io::{IsTerminal, stderr};

/// The size of a terminal's window in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

impl Default for WindowSize {
    fn default() -> WindowSize {
        WindowSize { width: 80, height: 24 }
    }
}

impl WindowSize {
    /// The size of the window of the terminal that is standard error; 80×24 if it has none to tell.
    #[must_use]
    pub fn detect() -> WindowSize {
        let size = terminal_size::terminal_size_of(stderr());
        size.filter(|(width, height)| width.0 > 0 && height.0 > 0).map_or_else(
            WindowSize::default,
            |(width, height)| WindowSize { width: usize::from(width.0), height: usize::from(height.0) },
        )
    }
}

/// What can be done with the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// It is a terminal on which the cursor can be moved.
    pub is_terminal: bool,
    /// Colours are possible and wanted.
    pub colours: bool,
    /// It is the journal of systemd: lines begin with their level (`IN_SYSTEMD=1`).
    pub is_journal: bool,
}

impl Presentation {
    /// What holds for this process's standard error. `NO_COLOR` and `NOCOLOR` switch colours off, if they are set to
    /// something; the terminal called `dumb` is none.
    #[must_use]
    pub fn detect() -> Presentation {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        let is_terminal = stderr().is_terminal() && terminal;
        Presentation {
            is_terminal,
            colours: is_terminal && !is_set("NO_COLOR") && !is_set("NOCOLOR"),
            is_journal: env::var_os("IN_SYSTEMD").is_some_and(|value| value == "1"),
        }
    }

    /// Plain text, nothing else.
    #[must_use]
    pub fn plain() -> Presentation {
        Presentation { is_terminal: false, colours: false, is_journal: false }
    }
}
