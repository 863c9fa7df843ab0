//! `kiln top` on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use super::Watched;

/// A terminal with a program on it.
struct Terminal {
    master: File,
    /// Keeps the terminal there when the program has ended.
    slave: OwnedFd,
    /// The terminal's modes before the program.
    before: Termios,
    program: Child,
    drawn: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn with_top(watched: &Watched, (width, height): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave =
            rustix::fs::open(Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())), flags, Mode::empty());
        let (master, slave) = (File::from(master), slave.unwrap());
        set_size(&master, (width, height));
        let before = tcgetattr(&slave).unwrap();
        let end = || slave.try_clone().unwrap();
        let daemon = watched.daemon.daemon_command();
        // Whoever has a terminal of its own is told of its size and its keys by signals.
        let program = Command::new("setsid")
            .args(["--ctty", "--"])
            .arg(daemon.get_program())
            .arg("top")
            .env_clear()
            .envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let drawn = Arc::new(Mutex::new(String::new()));
        let mut screen = master.try_clone().unwrap();
        let all = Arc::clone(&drawn);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when nobody has the other end open any more.
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { master, slave, before, program, drawn, reader }
    }

    fn drawn(&self) -> String {
        self.drawn.lock().unwrap().clone()
    }

    /// What was drawn last, and wholly.
    fn last_frame(&self) -> Option<String> {
        let drawn = self.drawn();
        let (before, _) = drawn.rsplit_once("\u{1b}[J")?;
        Some(before.rsplit_once("\u{1b}[H")?.1.to_owned())
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program's end; returns its exit code, all that was drawn, and the terminal's modes then.
    fn end(mut self) -> (Option<i32>, String, Termios) {
        let code = self.program.wait().unwrap().code();
        let modes = self.modes();
        drop(self.slave);
        self.reader.join().unwrap();
        let drawn = self.drawn.lock().unwrap().clone();
        (code, drawn, modes)
    }
}

fn set_size(terminal: &File, (width, height): (u16, u16)) {
    tcsetwinsize(terminal, Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// Width and height of what was drawn, without what says how.
fn size_of(frame: &str) -> (usize, usize) {
    // The terminal makes a return and a new line of a new line, whatever comes before it.
    let frame = frame.replace('\r', "");
    let lines: Vec<String> = frame
        .split('\n')
        .map(|line| {
            let mut parts = line.split("\u{1b}[");
            let first = parts.next().unwrap().to_owned();
            parts.fold(first, |text, part| {
                text + part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap()
            })
        })
        .collect();
    (lines.iter().map(|line| line.chars().count()).max().unwrap(), lines.len())
}

#[test]
fn top_draws_what_is_built_and_leaves_the_terminal_as_it_was() {
    let Some(watched) = Watched::start() else { return };
    let daemon = &watched.daemon;
    let mut building = daemon.client("nix-build").args(["-A", "slow", "--no-out-link"]).spawn().unwrap();
    daemon.wait_until("the build", || watched.get("/status").1.contains("-slow-1.drv"));
    let mut terminal = Terminal::with_top(&watched, (100, 30));
    let before = terminal.before.clone();
    let mut frame = None;
    daemon.wait_until("its name", || {
        frame = terminal.last_frame().filter(|frame| frame.contains("slow-1"));
        frame.is_some()
    });
    let frame = frame.unwrap();
    assert!(frame.contains("RUNNING") && frame.contains("CLIENTS"), "{frame}");
    assert!(terminal.drawn().contains("\u{1b}[?1049h"), "a screen of its own");
    let during = terminal.modes().local_modes;
    assert!(!during.intersects(LocalModes::ICANON | LocalModes::ECHO), "keys come at once");
    let (width, height) = size_of(&frame);
    assert!(width > 30 && height > 5, "{frame}");

    set_size(&terminal.master, (30, 5));
    let fits = |terminal: &Terminal, most: (usize, usize)| {
        let (width, height) = terminal.last_frame().map_or((0, 0), |frame| size_of(&frame));
        width <= most.0 && height <= most.1
    };
    daemon.wait_until("a smaller one", || fits(&terminal, (30, 5)));
    terminal.type_keys("q");
    let (code, drawn, after) = terminal.end();
    assert_eq!(code, Some(0), "{drawn}");
    assert!(drawn.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{drawn:?}");
    assert_eq!(after.local_modes, before.local_modes);
    assert!(building.wait().unwrap().success());
}

#[test]
fn an_interrupted_top_leaves_the_terminal_as_it_was() {
    let Some(watched) = Watched::start() else { return };
    let mut terminal = Terminal::with_top(&watched, (80, 24));
    let before = terminal.before.clone();
    watched.daemon.wait_until("the screen", || terminal.drawn().contains("nothing runs"));
    assert_ne!(terminal.modes().local_modes, before.local_modes);
    // Ctrl-C.
    terminal.type_keys("\u{3}");
    let (code, drawn, after) = terminal.end();
    assert_eq!(code, Some(0), "{drawn}");
    assert!(drawn.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{drawn:?}");
    assert_eq!(after.local_modes, before.local_modes);
}
