//! The terminal, used as a whole: lines out, keys in. It is as before when this is dropped.

use std::io::{self, Read, Write};
use std::thread;

use kiln_console::{WindowSize, fit};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// A screen of its own, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A key that somebody has pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Up,
    Down,
    Left,
    Right,
    Other,
}

/// The terminal.
pub(super) struct Screen {
    before: Termios,
    keys: mpsc::Receiver<Key>,
    resizes: Signal,
}

impl Screen {
    /// Takes the terminal. Must be called within the runtime.
    pub(super) fn open() -> io::Result<Self> {
        let resizes = signal(SignalKind::window_change())?;
        let before = tcgetattr(stdin())?;
        let mut during = before.clone();
        // Ctrl-C stays what it is.
        during.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(stdin(), OptionalActions::Now, &during)?;
        let screen = Self { before, keys: read_keys(), resizes };
        io::stdout().write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// The size of the window.
    pub(super) fn size(&self) -> WindowSize {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                WindowSize { width: size.ws_col.into(), height: size.ws_row.into() }
            }
            _ => WindowSize::default(),
        }
    }

    /// Shows these lines and nothing else, each cut to the width.
    pub(super) fn show<'a>(&mut self, lines: impl Iterator<Item = &'a String>) -> io::Result<()> {
        let width = self.size().width;
        let lines: Vec<String> = lines.map(|line| fit(line, width) + "\u{1b}[K").collect();
        let mut out = io::stdout().lock();
        write!(out, "\u{1b}[H{}\u{1b}[J", lines.join("\r\n"))?;
        out.flush()
    }

    /// The next key, or `None` when the window has another size.
    pub(super) async fn input(&mut self) -> Option<Key> {
        tokio::select! {
            // If the keyboard has gone, nobody is there any more to press one.
            key = self.keys.recv() => Some(key.unwrap_or(Key::Quit)),
            _ = self.resizes.recv() => None,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Reads keys on a thread, which ends with the process.
fn read_keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(read @ 1..) = io::stdin().lock().read(&mut bytes) {
            for key in keys(bytes.get(..read).unwrap_or_default()) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

/// The keys that a terminal has sent.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 12] = [
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOB", Key::Down),
        (b"\x1b[C", Key::Right),
        (b"\x1bOC", Key::Right),
        (b"\x1b[D", Key::Left),
        (b"\x1bOD", Key::Left),
        (b"q", Key::Quit),
        (b"k", Key::Up),
        (b"j", Key::Down),
        (b"s", Key::Right),
    ];
    let mut keys = Vec::new();
    while let Some((_, rest)) = bytes.split_first() {
        let found = SEQUENCES.iter().find_map(|(sequence, key)| Some((bytes.strip_prefix(*sequence)?, *key)));
        let (after, key) = found.unwrap_or((rest, Key::Other));
        keys.push(key);
        bytes = after;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_sequences() {
        assert_eq!(keys(b"\x1b[A\x1b[Bq"), [Key::Up, Key::Down, Key::Quit]);
        assert_eq!(keys(b"\x1bOCs\x1b[D"), [Key::Right, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b"), [Key::Other]);
        assert_eq!(keys(b""), []);
    }
}
