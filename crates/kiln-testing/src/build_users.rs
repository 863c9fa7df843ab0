//! Build users for tests: accounts that exist only in the mount namespace of a command, so that nothing of them is left.

use std::path::{Path, PathBuf};
use std::process::Command;

const GROUP: &str = "kilntest";
/// Far from the ids that systems give to accounts.
const FIRST_ID: u32 = 61_700;
const USERS: u32 = 4;

/// Accounts in files of their own.
#[derive(Debug)]
pub struct BuildUsers {
    passwd: PathBuf,
    group: PathBuf,
}

impl BuildUsers {
    /// Writes the files of the accounts into a directory; `None` without root, who alone can use them.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn in_directory(directory: &Path) -> Option<Self> {
        if std::fs::metadata("/proc/self").map(|status| std::os::unix::fs::MetadataExt::uid(&status)).ok()?
            != 0
        {
            return None;
        }
        let users = Self { passwd: directory.join("passwd"), group: directory.join("group") };
        let accounts: String = (1..=USERS)
            .map(|n| format!("{GROUP}{n}:x:{}:{FIRST_ID}:test:/var/empty:/usr/sbin/nologin\n", FIRST_ID + n))
            .collect();
        let members: Vec<String> = (1..=USERS).map(|n| format!("{GROUP}{n}")).collect();
        for (path, system, lines) in [
            (&users.passwd, "/etc/passwd", accounts),
            (&users.group, "/etc/group", format!("{GROUP}:x:{FIRST_ID}:{}\n", members.join(","))),
        ] {
            let text = std::fs::read_to_string(system).unwrap_or_default() + &lines;
            std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        Some(users)
    }

    /// The name of their group.
    pub fn group(&self) -> &'static str {
        GROUP
    }

    /// A command in a mount namespace in which the accounts exist.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        let script =
            "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/group && shift 2 && exec \"$@\"";
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.args([&self.passwd, &self.group]).arg(program);
        command
    }
}
