//! The daemon: whether one answers, and whether there is another beside it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_protocol::value::Trust;
use kiln_protocol::worker::handshake::{ClientHandshake, ServerGreeting};

use super::{Facts, Finding};

const AREA: &str = "Daemon";

/// How long it may take to say anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks for daemons.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let socket = socket(facts);
    let shown = socket.display();
    let mut findings = vec![match greet(&socket) {
        Ok(greeting) => answered(&socket, &greeting),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Finding::note(AREA, format!("no daemon listens at '{shown}'")).advise(
                "root can do without; others need 'systemctl start nix-daemon.socket' or 'kiln daemon'",
            )
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Finding::problem(AREA, format!("the socket '{shown}' is there, but no daemon listens"))
                .advise("start the daemon: 'systemctl restart nix-daemon.socket', or 'kiln daemon'")
        }
        Err(error) => Finding::problem(AREA, format!("the daemon at '{shown}' does not answer: {error}")),
    }];
    let daemons = daemons();
    if daemons.len() > 1 {
        let list: Vec<String> = daemons.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
        findings.push(
            Finding::note(AREA, format!("several daemons run: {}", list.join(", ")))
                .advise("that is well if they have stores or sockets of their own; those of one store share it safely, but only one can have the socket"),
        );
    }
    findings
}

fn socket(facts: &Facts<'_>) -> PathBuf {
    let variable =
        facts.invocation.environment.value("NIX_DAEMON_SOCKET_PATH").filter(|path| !path.is_empty());
    variable.map_or_else(|| facts.locations.state_dir.join("daemon-socket/socket"), PathBuf::from)
}

fn answered(socket: &Path, greeting: &ServerGreeting) -> Finding {
    let version = greeting
        .nix_version
        .as_deref()
        .map_or_else(|| "an old version".to_owned(), |version| format!("version {version}"));
    let trust = match greeting.trust {
        Trust::Trusted => "; it trusts this user",
        Trust::NotTrusted => "; it does not trust this user",
        Trust::Unknown => "",
    };
    Finding::ok(
        AREA,
        format!(
            "a daemon answers at '{}': {version}, protocol 1.{}{trust}",
            socket.display(),
            greeting.version.minor
        ),
    )
}

/// Says hello.
fn greet(socket: &Path) -> io::Result<ServerGreeting> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut handshake = ClientHandshake::new();
    let mut input = Vec::new();
    loop {
        let (mut rest, mut out) = (input.as_slice(), Vec::new());
        let step = handshake.step(&mut rest, &mut out).map_err(io::Error::other)?;
        stream.write_all(&out)?;
        if let Some(greeting) = step {
            return Ok(greeting);
        }
        let mut bytes = vec![0; 4096];
        let read = loop {
            match stream.read(&mut bytes) {
                // Whatever signal it was: reading with a deadline is never taken up again by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Err(io::Error::other(
                "it closes the connection; 'allowed-users' may leave this user out",
            ));
        }
        bytes.truncate(read);
        input = bytes;
    }
}

/// Processes that are daemons by their command lines.
fn daemons() -> Vec<(u32, &'static str)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        // Children of a daemon serve one client each: only those whose parent is none count.
        if let Some(name) = daemon_name(&line).filter(|name| parent_name(pid) != Some(*name)) {
            found.push((pid, name));
        }
    }
    found.sort_unstable();
    found
}

fn parent_name(pid: u32) -> Option<&'static str> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
    daemon_name(&fs::read(format!("/proc/{parent}/cmdline")).ok()?)
}

/// Which daemon a command line starts, if one.
fn daemon_name(line: &[u8]) -> Option<&'static str> {
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next()?.rsplit(|byte| *byte == b'/').next()?;
    let first = words.next().unwrap_or_default();
    match (program, first) {
        (_, b"--stdio") => None,
        (b"kiln", b"daemon") => Some("kiln daemon"),
        (b"nix-daemon", _) | (b"nix", b"daemon") => Some("nix-daemon"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_known_by_their_command_lines() {
        assert_eq!(daemon_name(b"/usr/bin/kiln\0daemon\0"), Some("kiln daemon"));
        assert_eq!(daemon_name(b"nix-daemon\0--daemon\0"), Some("nix-daemon"));
        assert_eq!(daemon_name(b"nix-daemon\0--stdio\0"), None);
        assert_eq!(daemon_name(b"kiln\0build\0daemon\0"), None);
        assert_eq!(daemon_name(b""), None);
    }
}
