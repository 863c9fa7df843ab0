//! A server of ssh on loopback, for machines that are reached by ssh.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::kiln::{Kiln, sandbox_paths_of_nix};
use crate::requirement::missing;
use crate::scratch_directory::ScratchDirectory;

const SSH_SERVER: &str = "/usr/sbin/sshd";

/// What keeps ssh from whatever this machine's users have set.
pub const ALONE: &str = "-o IdentitiesOnly=yes -F none";

/// A server of ssh on loopback, of the same user, with keys made for it; ended with this value.
#[derive(Debug)]
pub struct SshServer {
    process: Child,
    port: u16,
    directory: ScratchDirectory,
}

impl SshServer {
    /// `None`, loudly, where there is none, or where this user cannot log in.
    ///
    /// # Panics
    /// Under continuous integration, if there is none; and if it does not start.
    #[expect(clippy::print_stderr, reason = "a test that tests nothing has to say so")]
    pub fn start() -> Option<Self> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let account = run(Command::new("getent").args(["passwd", &user])).stdout;
        if !String::from_utf8_lossy(&account).trim_end().ends_with("sh") {
            eprintln!("SKIPPED: nobody can log in as the user {user}");
            return None;
        }
        if !Path::new(SSH_SERVER).exists() {
            missing("a server of ssh (Debian's openssh-server)");
            return None;
        }
        let directory = ScratchDirectory::new();
        let path = directory.path().to_path_buf();
        let file = |name: &str| path.join(name).display().to_string();
        for key in ["host", "user"] {
            let made =
                run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &file(key)]));
            assert!(made.status.success(), "ssh-keygen cannot make a key");
        }
        // Nobody else takes it in this moment; if so, the connection fails for its keys.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.unwrap_or_else(|error| panic!("no port: {error}")).port();
        let configuration = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\n",
            file("host"),
            file("user.pub")
        );
        fs::write(file("configuration"), configuration).unwrap_or_else(|error| panic!("{error}"));
        // Run by root, it wants a directory that only a booted machine has.
        let script = "if test $(id -u) = 0; then mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd || exit; fi; exec \"$@\"";
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script, "sh", SSH_SERVER]);
            command
        } else {
            Command::new(SSH_SERVER)
        };
        let log = fs::File::create(file("log")).unwrap_or_else(|error| panic!("{error}"));
        let process =
            command.args(["-D", "-e", "-f", &file("configuration")]).stdin(Stdio::null()).stderr(log).spawn();
        let process = process.unwrap_or_else(|error| panic!("{SSH_SERVER}: {error}"));
        let server = Self { process, port, directory };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            sleep(Duration::from_millis(20));
        }
        panic!("the server of ssh does not start: {}", fs::read_to_string(file("log")).unwrap_or_default());
    }

    /// What `NIX_SSHOPTS` is to be, for who says nothing else.
    pub fn options(&self) -> String {
        format!(
            "-p {} -i {} -o UserKnownHostsFile={} -o StrictHostKeyChecking=no {ALONE} -q",
            self.port,
            self.key().display(),
            self.directory.path().join("known").display()
        )
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file of the private key to log in with.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("user")
    }

    /// Its public key, as a line of text.
    ///
    /// # Panics
    /// The file is gone.
    pub fn host_key(&self) -> String {
        fs::read_to_string(self.directory.path().join("host.pub")).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program as machines have it that are reached by ssh, where there is nothing of this machine's settings.
///
/// # Panics
/// The file can't be written.
pub fn remote_program(kiln: &Kiln, program: &str) -> PathBuf {
    let settings = [
        format!("sandbox-paths = {}", sandbox_paths_of_nix()),
        "build-users-group =".to_owned(),
        "substituters =".to_owned(),
    ];
    let script = format!(
        "#!/bin/sh\nexport NIX_CONFIG='{}' NIX_CONF_DIR=/does/not/exist HOME='{home}' TMPDIR='{home}'\nexec {program} \"$@\"\n",
        settings.join("\n"),
        home = kiln.directory().display()
    );
    let file = kiln.write("remote-program", script);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
    file
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}
