//! A store on another machine: `ssh` is run for each connection, and what goes through it is the worker or the serve protocol.
//!
//! The command line is that of Nix (serve-protocol specification, "ssh command lines"), so that settings of ssh which work
//! for Nix work here. What ssh and the program there say is kept for the case that the connection ends.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use kiln_hash::encoding::decode_base64;
use kiln_settings::{SshProtocol, SshUrl};
use tempfile::NamedTempFile;
use tokio::net::UnixStream;

use crate::process::DaemonProcess;

/// The machine that is this one, to which nobody has to log in.
const THIS_MACHINE: &str = "localhost";

/// Starts ssh, and with it the program there. Returns before anybody knows whether there is a connection.
///
/// # Errors
/// ssh can't be run, or the machine's key does not read.
pub(crate) fn start(machine: &SshUrl, options: &[String]) -> io::Result<(UnixStream, DaemonProcess)> {
    let known_hosts = machine.host_key.as_deref().map(|key| known_hosts(machine, key)).transpose()?;
    let words = arguments(machine, options, known_hosts.as_ref().map(NamedTempFile::path))?;
    // What ssh runs for itself, the settings of a user say in that language.
    let shell = ("SHELL".into(), "/bin/sh".into());
    DaemonProcess::start(&words, &[shell], known_hosts)
}

/// The whole command line, program first.
fn arguments(machine: &SshUrl, options: &[String], known_hosts: Option<&Path>) -> io::Result<Vec<OsString>> {
    let mut remote: Vec<String> = machine.remote_program.clone();
    let mode = match machine.protocol {
        SshProtocol::Worker => &["--stdio"][..],
        SshProtocol::Serve => &["--serve", "--write"],
    };
    remote.extend(mode.iter().map(|word| (*word).to_owned()));
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
        assert_eq!(line("ssh://me@host", &[], None), "ssh|me@host|-x|--|nix-store|--serve|--write");
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
        assert_eq!(line("ssh://localhost", &[], None), "nix-store|--serve|--write");
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
}
