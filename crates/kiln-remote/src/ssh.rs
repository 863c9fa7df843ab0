//! A daemon on another machine: `ssh` is run for each connection, and what goes through it is the worker protocol.
//!
//! The command line is that of Nix (serve-protocol specification, "ssh command lines"), so that settings of ssh which work
//! for Nix work here. What ssh and the program there say is kept for the case that there is no connection.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kiln_events::{Colours, safe_text};
use kiln_hash::encoding::decode_base64;
use kiln_settings::SshUrl;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The machine that is this one, to which nobody has to log in.
const THIS_MACHINE: &str = "localhost";

/// The most bytes of what ssh says that are kept, its first ones: they tell why.
const WORDS: usize = 4096;

/// How long ssh may take to end when there is no connection.
const END: Duration = Duration::from_secs(2);

/// A process through which a daemon is talked to; killed with this value.
pub(crate) struct SshProcess {
    child: Child,
    words: JoinHandle<Vec<u8>>,
    /// The file that tells ssh the machine's key.
    _known_hosts: Option<NamedTempFile>,
}

/// Starts ssh, and with it the daemon there. Returns before anybody knows whether there is a connection.
///
/// # Errors
/// ssh can't be run, or the machine's key does not read.
pub(crate) fn start(machine: &SshUrl, options: &[String]) -> io::Result<(UnixStream, SshProcess)> {
    let known_hosts = machine.host_key.as_deref().map(|key| known_hosts(machine, key)).transpose()?;
    let arguments = arguments(machine, options, known_hosts.as_ref().map(NamedTempFile::path))?;
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let theirs = OwnedFd::from(theirs);
    let (program, arguments) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        // What ssh runs for itself, the settings of a user say in that language.
        .env("SHELL", "/bin/sh")
        // On this machine the daemon could take itself for the store that it is to serve, without end.
        .env_remove("NIX_REMOTE")
        .stdin(Stdio::from(theirs.try_clone()?))
        .stdout(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot run '{}': {error}", program.display()))
        })?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let process = SshProcess { child, words: tokio::spawn(first_words(stderr)), _known_hosts: known_hosts };
    Ok((UnixStream::from_std(ours)?, process))
}

impl SshProcess {
    /// What ssh, or the program there, has said about why there is no connection; nothing if it has said nothing.
    pub(crate) async fn last_words(mut self) -> Option<String> {
        // It ends by itself, unless it was not ssh who failed.
        let _ = timeout(END, self.child.wait()).await;
        let _ = self.child.start_kill();
        let words = timeout(END, &mut self.words).await.ok()?.ok()?;
        let words = safe_text(&words, Colours::Strip).trim().to_owned();
        (!words.is_empty()).then_some(words)
    }
}

/// Reads to the end, so that nobody waits for room, and keeps what came first.
async fn first_words(mut stderr: ChildStderr) -> Vec<u8> {
    let (mut words, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let room = WORDS.saturating_sub(words.len()).min(length);
        words.extend_from_slice(chunk.get(..room).unwrap_or_default());
    }
    words
}

/// The whole command line, program first.
fn arguments(machine: &SshUrl, options: &[String], known_hosts: Option<&Path>) -> io::Result<Vec<OsString>> {
    let mut remote: Vec<String> = machine.remote_program.clone();
    remote.push("--stdio".to_owned());
    remote.extend(machine.remote_store.iter().flat_map(|store| ["--store".to_owned(), store.clone()]));
    if machine.host == THIS_MACHINE && machine.user.is_none() && machine.port.is_none() {
        return Ok(remote.into_iter().map(OsString::from).collect());
    }
    let mut line: Vec<OsString> = vec!["ssh".into()];
    let destination = match &machine.user {
        Some(user) => format!("{user}@{}", machine.host),
        None => machine.host.clone(),
    };
    line.extend([destination.into(), "-x".into()]);
    line.extend(options.iter().map(OsString::from));
    if let Some(key) = &machine.key {
        line.extend(["-i".into(), key.into()]);
    }
    if let Some(file) = known_hosts {
        let mut option = OsString::from("-oUserKnownHostsFile=");
        option.push(file);
        line.extend([
            option,
            "-oGlobalKnownHostsFile=/dev/null".into(),
            "-oStrictHostKeyChecking=yes".into(),
        ]);
    }
    if machine.compress {
        line.push("-C".into());
    }
    line.extend(machine.port.map(|port| format!("-p{port}").into()));
    line.push("--".into());
    // A shell there takes what comes after the program apart once more.
    for (index, word) in remote.iter().enumerate() {
        let is_program = index < machine.remote_program.len();
        let quoted = shlex::try_quote(word).map_err(|error| io::Error::other(error.to_string()))?;
        line.push(if is_program { word.into() } else { quoted.into_owned().into() });
    }
    Ok(line)
}

/// A file that says the machine's key, under all names by which ssh may look for it.
fn known_hosts(machine: &SshUrl, key: &str) -> io::Result<NamedTempFile> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "its public host key does not read");
    let key = decode_base64(key.as_bytes()).ok().and_then(|key| String::from_utf8(key).ok());
    let key = key.ok_or_else(bad)?;
    // More than a line would be keys of other machines.
    let key = key.trim();
    if key.contains(char::is_control) {
        return Err(bad());
    }
    let mut file = NamedTempFile::new()?;
    writeln!(file, "{} {key}", machine.host)?;
    if let Some(port) = machine.port {
        writeln!(file, "[{}]:{port} {key}", machine.host)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use kiln_hash::encoding::base64;
    use kiln_settings::StoreUrl;

    use super::*;

    fn machine(url: &str) -> SshUrl {
        match StoreUrl::parse(url).unwrap() {
            StoreUrl::Ssh(machine) => machine,
            other => panic!("{other:?}"),
        }
    }

    fn line(url: &str, options: &[&str], known_hosts: Option<&str>) -> String {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let line = arguments(&machine(url), &options, known_hosts.map(Path::new)).unwrap();
        line.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn the_command_line_is_that_of_nix() {
        assert_eq!(line("ssh-ng://host", &[], None), "ssh|host|-x|--|nix-daemon|--stdio");
        let url = "ssh-ng://me@host:2222?ssh-key=/k&compress=true&remote-program=nice%20nix-daemon\
                   &remote-store=/r?state%3D/s%20t%24x";
        assert_eq!(
            line(url, &["-F", "none"], Some("/known")),
            "ssh|me@host|-x|-F|none|-i|/k|-oUserKnownHostsFile=/known|-oGlobalKnownHostsFile=/dev/null|\
             -oStrictHostKeyChecking=yes|-C|-p2222|--|nice|nix-daemon|--stdio|--store|'/r?state=/s t$x'"
        );
    }

    #[test]
    fn nobody_logs_in_to_this_machine() {
        let url = "ssh-ng://localhost?remote-store=/r%20s";
        assert_eq!(line(url, &["-F", "none"], None), "nix-daemon|--stdio|--store|/r s");
        assert!(line("ssh-ng://me@localhost", &[], None).starts_with("ssh|me@localhost|"));
    }

    #[test]
    fn a_key_is_one_line_under_each_name_of_the_machine() {
        let key = |text: &str| base64(text.as_bytes());
        let file = known_hosts(&machine("ssh-ng://host:22"), &key("ssh-ed25519 AAAA me\n")).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "host ssh-ed25519 AAAA me\n[host]:22 ssh-ed25519 AAAA me\n");
        for bad in [key("one\nother.example two"), base64(b"\xff"), "@".to_owned()] {
            let error = known_hosts(&machine("ssh-ng://host"), &bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn what_is_said_is_kept_and_bounded() {
        let script = NamedTempFile::new().unwrap();
        let text = format!("printf '\\033[1mno \\a%s' \"$*\" >&2; head -c {} /dev/zero >&2", WORDS * 9);
        fs::write(script.path(), text).unwrap();
        let url = format!("ssh-ng://localhost?remote-program=sh%20{}", script.path().display());
        let (stream, process) = start(&machine(&url), &[]).unwrap();
        stream.readable().await.unwrap();
        assert_eq!(stream.try_read(&mut [0]).unwrap(), 0, "an end");
        let words = process.last_words().await.unwrap();
        assert!(words.starts_with("no --stdio") && words.len() <= WORDS, "{words:?}");
        let error = start(&machine("ssh-ng://localhost?remote-program=/none"), &[]).map(drop).unwrap_err();
        assert!(error.to_string().contains("cannot run '/none'"), "{error}");
    }
}
